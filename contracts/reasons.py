"""Why a record becomes a dead letter: stable codes, each with its meaning and remedy."""

from collections.abc import Mapping
from types import MappingProxyType

REASONS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        # the record as bytes
        "wire_format": ("not in the Confluent wire format", "produce with the registry's serializer"),
        "schema_unknown": ("the schema id is not in the registry", "register the schema, then replay"),
        "schema_incompatible": ("the writer schema cannot be read with the contract", "restore the missing column"),
        "avro_malformed": ("the Avro body is truncated or malformed", "fix the producer"),
        # the values
        "field_missing": ("a required value is absent or blank", "give the value at the source"),
        "field_too_long": ("a text is longer than 255 characters", "shorten it at the source"),
        "field_control_character": ("a text holds a control character", "clean it at the source"),
        "country_unknown": ("not an ISO 3166 alpha-2 code", "use a code such as BR"),
        "amount_malformed": ("not a decimal number", "write digits with a point, such as 1234.56"),
        "amount_scale": ("more than two decimal places", "round at the source"),
        "amount_range": ("not above 0 and below 10^16", "correct it at the source"),
        "time_malformed": ("not an ISO 8601 instant or epoch value", "write 2026-02-19T10:00:00Z"),
        "time_too_early": ("before 2000-01-01", "correct it at the source"),
        "time_in_future": ("more than 5 minutes ahead of now", "correct the clock or the value"),
        "store_rejected": ("a value does not fit its column in the store", "correct it at its producer"),
        "operation_unknown": ("a change operation that Placar does not know", "upgrade Placar"),
        "version_range": ("the version of the sale is outside its range", "check the source's clock or log position"),
        # files
        "file_empty": ("the object holds no bytes", "upload it again"),
        "file_bom": ("the file starts with a byte order mark", "save it as UTF-8 without BOM"),
        "file_encoding": ("the file or row is not UTF-8", "save it as UTF-8"),
        "file_header": ("the header is not the agreed one", "use the header of the contract, comma separated"),
        "file_unreadable": ("the object cannot be read", "check the object and its permissions"),
        "row_ragged": ("the row has more or fewer columns than the header", "quote commas; complete the row"),
        "row_too_long": ("the row is longer than 1,000,000 bytes", "check for an unclosed quote"),
        # legacy
        "legacy_malformed": ("the SOAP answer cannot be read", "check the legacy service"),
        # webhooks
        "webhook_malformed": ("the signed request holds no event", "fetch the object from the provider"),
        "field_malformed": (
            "a field of a webhook's body is not what the provider documents",
            "set the webhook to a version of the provider's API that has it so, or upgrade Placar",
        ),
        "currency_not_ranked": (
            "an amount in another currency than the rankings",
            "set REPORTING_CURRENCY to the currency that is to be ranked, then replay",
        ),
    }
)


def remedy(reason: str) -> str:
    """What the owner of the source can do about a reason code.

    Raises:
        KeyError: the code is not one of ours.
    """
    return REASONS[reason][1]
