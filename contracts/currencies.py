"""Currencies: the decimal places of their minor units.

ISO 4217 (list one of its maintenance agency, SIX) gives a currency two, unless it is among these. Units of account and
metals, which have none, are not here: nobody is charged in them.
"""

from collections.abc import Mapping
from types import MappingProxyType

_NONE = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_THREE = "BHD IQD JOD KWD LYD OMR TND"
_FOUR = "CLF UYW"

MINOR_UNITS: Mapping[str, int] = MappingProxyType(
    {code: places for codes, places in ((_NONE, 0), (_THREE, 3), (_FOUR, 4)) for code in codes.split()}
)
"""ISO 4217: the decimal places of a currency that has not two."""

STRIPE_MINOR_UNITS: Mapping[str, int] = MappingProxyType({**MINOR_UNITS, "ISK": 2, "MGA": 0, "UGX": 2})
"""The same as Stripe counts in its amounts (https://docs.stripe.com/currencies, "Special cases" and "Zero-decimal
currencies"): 100 is one króna or shilling, for compatibility with what they once were, and 1 is one ariary."""
