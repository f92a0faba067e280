"""JSON records against schemas: what fits is what the codec takes, and what does not is named by its field."""

from typing import Any

import pytest

from contracts.catalogue import Topic, catalogue
from contracts.codec import encode_body, parse
from contracts.json_avro import RejectedError, typed
from tools.topics.transform import kind

UNIFIED = catalogue()["sales.unified"]
RANKING = catalogue()["rankings.city"]


@pytest.mark.parametrize("topic", list(catalogue().values()), ids=lambda topic: topic.name)
def test_every_example_fits(topic: Topic) -> None:
    """Each example of each topic is the record that the codec takes."""
    for example in topic.examples().values():
        assert encode_body(1, parse(topic.avro), typed(topic.avro, example))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"amount": 12.3}, 'field amount is 12.3, not a decimal as text, such as "12.50", of at most 18 digits, 2 of'),
        ({"amount": "12,30"}, "field amount is '12,30', not a decimal"),
        ({"amount": "1.234"}, "field amount is '1.234', not a decimal"),
        ({"amount": "NaN"}, "field amount is 'NaN', not a decimal"),
        ({"amount": "1" * 80}, f"field amount is '{'1' * 56}..., not a decimal"),
        ({"amount": None}, "field amount is None, not a decimal"),
        ({"event_time": "yesterday"}, "field event_time is 'yesterday', not an instant with a time zone"),
        ({"event_time": "2026-02-19T10:00:00"}, "field event_time is '2026-02-19T10:00:00', not an instant"),
        ({"event_time": 7}, "field event_time is 7, not an instant"),
        ({"version": "7"}, "field version is '7', not of type long"),
        ({"version": True}, "field version is True, not of type long"),
        ({"version": 2**63}, "field version is 9223372036854775808, not of type long"),
        ({"deleted": "no"}, "field deleted is 'no', not of type boolean"),
        ({"city": None}, "field city is None, not of type string"),
        ({"city": ["Recife"]}, "field city is ['Recife'], not of type string"),
        ({"town": "Recife"}, "field town is not in the schema; there are sale_id, source, "),
    ],
)
def test_a_value_that_does_not_fit_is_named(change: dict[str, Any], message: str) -> None:
    """The message has the field, the value, shortened, and what it must be."""
    with pytest.raises(RejectedError) as rejected:
        typed(UNIFIED.avro, {**UNIFIED.examples()["sale"], **change})
    assert str(rejected.value).startswith(message)


def test_a_missing_field_is_named() -> None:
    """A field without a default must be there, also within an entry of a list."""
    sale = {name: value for name, value in UNIFIED.examples()["sale"].items() if name != "city"}
    with pytest.raises(RejectedError, match=r"^field city is missing$"):
        typed(UNIFIED.avro, sale)
    ranking = next(example for example in RANKING.examples().values() if len(example["entries"]) > 1)
    ranking["entries"][1] = {"rank": 2}
    with pytest.raises(RejectedError, match=r"^field entries\[1\]\.\w+ is missing$"):
        typed(RANKING.avro, ranking)


@pytest.mark.parametrize("value", [None, [], "text", 7])
def test_only_an_object_is_a_record(value: Any) -> None:
    """JSON that is no object is rejected as a whole, and where a list must be."""
    with pytest.raises(RejectedError, match=r"^the record is .*, not a JSON object$"):
        typed(UNIFIED.avro, value)
    if value != []:
        with pytest.raises(RejectedError, match=r"^field entries is .*, not a JSON array$"):
            typed(RANKING.avro, {**next(iter(RANKING.examples().values())), "entries": value})


def test_a_named_type_is_found_by_its_whole_name() -> None:
    """A schema that names a type of its own with its namespace, as Debezium's do, is followed."""
    inner = {"type": "record", "name": "Row", "namespace": "shop", "fields": [{"name": "n", "type": "long"}]}
    schema = {
        "type": "record",
        "name": "Change",
        "fields": [
            {"name": "before", "type": ["null", inner], "default": None},
            {"name": "after", "type": ["null", "shop.Row"], "default": None},
        ],
    }
    assert typed(schema, {"after": {"n": 7}}) == {"after": {"n": 7}}
    with pytest.raises(RejectedError, match=r"^field after\.n is 'x', not of type long$"):
        typed(schema, {"after": {"n": "x"}})


def test_types_are_named_in_a_word() -> None:
    """What `topics describe` says of the types of a field."""
    named = {field["name"]: kind(field["type"]) for field in (*UNIFIED.avro["fields"], *RANKING.avro["fields"])}
    assert named["amount"] == "decimal(18, 2)"
    assert named["event_time"] == "timestamp-millis"
    assert named["city"] == "string"
    assert named["entries"].startswith("list of ")
    assert kind(["null", "string"]) == "null or string"
