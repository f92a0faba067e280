"""The reporting currency of the services whose sources have several."""

import pytest

from chassis.settings import load
from chassis.stream import StreamSettings
from streams.shopify.settings import Settings as ShopifySettings
from streams.stripe.settings import Settings as StripeSettings

BOTH = pytest.mark.parametrize("settings", [ShopifySettings, StripeSettings])


@BOTH
def test_one_variable_is_the_currency_of_both(settings: type[StreamSettings], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is BRL unless REPORTING_CURRENCY says another."""
    assert load(settings).model_dump()["reporting"] == {"currency": "BRL"}
    monkeypatch.setenv("REPORTING_CURRENCY", "JPY")
    assert load(settings).model_dump()["reporting"] == {"currency": "JPY"}


@BOTH
@pytest.mark.parametrize("written", ["", "brl", "REAL", "XXZ", "R$", "986"])
def test_a_wrong_currency_is_one_line(
    settings: type[StreamSettings], written: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is no ISO 4217 code ends the process with a line that names the variable, its value and an example."""
    monkeypatch.setenv("REPORTING_CURRENCY", written)
    with pytest.raises(SystemExit) as end:
        load(settings)
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"REPORTING_CURRENCY {written!r}" in line
    assert "such as BRL" in line
