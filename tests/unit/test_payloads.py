"""The models of webhooks' bodies, and their JSON Schemas."""

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import payloads
from contracts.catalogue import catalogue
from contracts.json_avro import typed
from contracts.payloads import FOLDER, SCHEMAS, PayloadError, ShopifyOrder, StripeChargeEvent
from contracts.reasons import REASONS
from tests.webhook_events import CHARGE, ORDER

EVENT: dict[str, Any] = {"type": "charge.succeeded", "created": 1, "livemode": True, "data": {"object": CHARGE}}


def test_the_schemas_are_those_of_the_models() -> None:
    """The files in contracts/payloads/ are what `python -m contracts.payloads` writes."""
    assert {path.stem: path.read_text("utf-8") for path in FOLDER.glob("*")} == {
        name: payloads.schema(name) for name in SCHEMAS
    }


@pytest.mark.parametrize(("name", "content"), [("shopify_order", ORDER), ("stripe_charge_event", EVENT)])
def test_the_schemas_take_what_the_models_take(name: str, content: Any) -> None:
    """A body that the model reads is valid by the schema, with further fields too; one without a field is not."""
    schema = json.loads(payloads.schema(name))
    validator = jsonschema.Draft202012Validator(schema)
    assert payloads.read(SCHEMAS[name], content)
    validator.validate({**content, "added_by_a_later_version": [{"x": None}]})
    for field in schema["required"]:
        assert not validator.is_valid({key: value for key, value in content.items() if key != field})


def broken(name: str, content: Any) -> str:
    """Why the model rejects the content; empty where it takes it."""
    try:
        payloads.read(SCHEMAS[name], content)
    except PayloadError as error:
        return error.reason
    return ""


@pytest.mark.parametrize(
    ("topic", "name"), [("shopify.orders", "shopify_order"), ("stripe.charges", "stripe_charge_event")]
)
def test_the_schemas_tell_good_examples_from_bad(topic: str, name: str) -> None:
    """Of each example's body the schema says what the model says; only what is deleted may lack fields."""
    validator = jsonschema.Draft202012Validator(json.loads(payloads.schema(name)))
    contract = catalogue()[topic]
    wrong = [case["record"] for case in contract.examples("invalid").values() if "record" in case]
    rejected = 0
    for record in (*contract.examples().values(), *wrong):
        example = typed(contract.avro, record)
        if not broken(name, content := json_value(example["body"])):
            validator.validate(content)
            continue
        rejected += 1
        assert not validator.is_valid(content), record["body"]
        assert record in wrong or example["event_type"] in ("orders/delete", "orders/cancelled")
    assert rejected > 5


def json_value(body: bytes) -> Any:
    """The JSON value of a body; None where it is none."""
    try:
        return payloads.document(body)
    except PayloadError:
        return None


def failure(content: Any) -> tuple[str, str]:
    """Reason and detail of what is no order."""
    with pytest.raises(PayloadError) as error:
        payloads.read(ShopifyOrder, content)
    return error.value.reason, error.value.detail


@pytest.mark.parametrize(
    ("change", "reason", "path"),
    [
        ({"id": "1001"}, "field_malformed", "id is '1001'"),
        ({"id": True}, "field_malformed", "id is True"),
        ({"id": 1001.0}, "field_malformed", "id is 1001.0"),
        ({"test": "false"}, "field_malformed", "test is 'false'"),
        ({"current_total_price": 184.5}, "field_malformed", "current_total_price is 184.5"),
        ({"current_total_price": None}, "field_missing", "current_total_price is null"),
        ({"line_items": {"0": 1}}, "field_malformed", "line_items is {'0': 1}"),
        ({"line_items": [{"title": "a"}]}, "field_missing", "line_items[0].price is missing"),
        ({"line_items": [ORDER["line_items"][0], 7]}, "field_malformed", "line_items[1] is 7"),
        ({"shipping_address": {"city": 7}}, "field_malformed", "shipping_address.city is 7"),
        ({"note_attributes": [{"value": "x"}]}, "field_missing", "note_attributes[0].name is missing"),
    ],
    ids=str,
)
def test_a_wrong_field_is_named_by_its_path(change: dict[str, Any], reason: str, path: str) -> None:
    """The reason tells missing from wrong, the detail begins with the field's path and its value."""
    assert failure({**ORDER, **change})[0] == reason
    assert failure({**ORDER, **change})[1].startswith(path)


@pytest.mark.parametrize("intent", [7, {"metadata": {}}, {"id": 7}, ["pi_1"]], ids=str)
def test_a_field_of_several_forms_is_named_once(intent: Any) -> None:
    """A field that may be a text or an object is named as the body has it."""
    event = {**EVENT, "data": {"object": {**CHARGE, "payment_intent": intent}}}
    with pytest.raises(PayloadError) as error:
        payloads.read(StripeChargeEvent, event)
    assert error.value.detail.startswith("data.object.payment_intent is ")


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b"{}{}", b'"\\ud800"', b"9" * 100_000, b"nul"])
def test_what_is_no_json_is_rejected(body: bytes) -> None:
    """Bytes that are no JSON, or nested too deeply, are an error of the body with a detail of bounded length."""
    with pytest.raises(PayloadError) as error:
        payloads.document(body)
    assert error.value.reason == "webhook_malformed"
    assert len(error.value.detail) < 200


@pytest.mark.parametrize("content", [None, 7, "x", [], [ORDER], 1e999])
def test_a_body_is_an_object(content: Any) -> None:
    """Any other JSON value is an error of the body."""
    assert failure(content)[0] == "webhook_malformed"


def test_what_is_not_read_may_be_odd() -> None:
    """Of fields that are not used neither huge numbers nor NaN nor nesting matter; of a double key the last counts."""
    text = json.dumps(ORDER)[:-1] + ', "x": [NaN, -Infinity, 1e999, 1' + "0" * 4000 + "], "
    text += '"deep": ' + "[" * 100 + "]" * 100 + ', "test": 7, "test": false}'
    assert payloads.read(ShopifyOrder, payloads.document(text.encode())).test is False


@given(st.binary(max_size=50) | st.text('[]{}":,truefalsn0123456789.eE+-\\u ', max_size=60).map(str.encode))
def test_any_bytes_are_rejected_with_a_reason(body: bytes) -> None:
    """Whatever the bytes, if they are no order there is a known reason."""
    with pytest.raises(PayloadError) as error:
        payloads.read(ShopifyOrder, payloads.document(body))
    assert error.value.reason in REASONS
