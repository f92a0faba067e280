"""Released schemas are kept as they were, and every change of a schema is compatible under its topic's rule."""

import copy
import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pytest

from contracts import released
from contracts.catalogue import Topic, catalogue
from contracts.compatibility import incompatible, unreadable
from contracts.released import LOCK, edited, problems, releases, schema

TOPICS = list(catalogue().values())
RECORD: dict[str, Any] = {
    "type": "record",
    "name": "Sale",
    "namespace": "test",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "count", "type": "int"},
        {"name": "note", "type": ["null", "string"], "default": None},
        {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "lines", "type": {"type": "array", "items": {
            "type": "record", "name": "Line", "fields": [{"name": "rank", "type": "int"}]}}},
        {"name": "first", "type": ["null", "Line"]},
    ],
}  # fmt: skip


def changed(name: str, **more: Any) -> dict[str, Any]:
    """RECORD with a field changed, or added where there is none of the name."""
    other = copy.deepcopy(RECORD)
    field = next((field for field in other["fields"] if field["name"] == name), None)
    if field is None:
        other["fields"].append({"name": name, **more})
    else:
        field.update(more)
    return other


def without(name: str) -> dict[str, Any]:
    """RECORD without a field."""
    return {**RECORD, "fields": [field for field in RECORD["fields"] if field["name"] != name]}


LINE = {"type": "record", "name": "Line", "fields": [{"name": "rank", "type": "int"}, {"name": "name", "type": "int"}]}
# a newer schema, whether it reads what the older wrote, and whether the older reads what it writes
CHANGES = {
    "same": (RECORD, True, True),
    "with a field without default": (changed("city", type="string"), False, True),
    "with a field with default": (changed("city", type="string", default=""), True, True),
    "without a field without default": (without("id"), True, False),
    "without a field with default": (without("note"), True, True),
    "field renamed": ({**without("id"), "fields": [*without("id")["fields"], {"name": "sale_id", "type": "string"}]},
                      False, False),
    "field renamed with alias": (
        {**without("id"), "fields": [*without("id")["fields"], {"name": "no", "type": "string", "aliases": ["id"]}]},
        True, False),
    "wider": (changed("count", type="long"), True, False),
    "other type": (changed("count", type="string"), False, False),
    "optional": (changed("id", type=["null", "string"]), True, False),
    "optional no more": (changed("first", type="Line"), False, True),
    "branch added": (changed("note", type=["null", "string", "long"]), True, False),
    "other scale": (changed("amount", type={**RECORD["fields"][3]["type"], "scale": 3}), False, False),
    "decimal no more": (changed("amount", type="bytes"), False, False),
    "time no more": (changed("at", type="long"), False, False),
    "record renamed": ({**RECORD, "name": "Sold"}, False, False),
    "element with a field more": (changed("lines", type={"type": "array", "items": LINE}), False, True),
}  # fmt: skip


# fastavro reads these as something else than was written
STRICTER = {"other scale", "decimal no more", "time no more", "record renamed"}


@pytest.mark.parametrize("kind", list(CHANGES))
def test_changes_are_judged(kind: str) -> None:
    """Each kind of change is compatible backward, forward, both or not at all, as Avro's schema resolution says."""
    newer, backward, forward = CHANGES[kind]
    assert (unreadable(newer, RECORD) == [], unreadable(RECORD, newer) == []) == (backward, forward)
    assert (incompatible("BACKWARD_TRANSITIVE", newer, RECORD) == []) == backward
    assert (incompatible("FULL_TRANSITIVE", newer, RECORD) == []) == (backward and forward)


@pytest.mark.parametrize("kind", sorted(set(CHANGES) - STRICTER))
def test_the_reading_library_agrees(kind: str) -> None:
    """A record of the older schema is read with the newer one exactly where that is said to be possible."""
    newer, backward, _ = CHANGES[kind]
    at = datetime(2026, 2, 19, tzinfo=UTC)
    record = {"id": "x", "count": 1, "note": None, "amount": Decimal("1.00"), "at": at, "lines": [{"rank": 1}]}
    written = io.BytesIO()
    fastavro.schemaless_writer(written, copy.deepcopy(RECORD), {**record, "first": None})
    written.seek(0)
    read = True
    try:
        fastavro.schemaless_reader(written, copy.deepcopy(RECORD), copy.deepcopy(newer))
    except fastavro.read.SchemaResolutionError:
        read = False
    assert read == backward


def test_the_field_is_named() -> None:
    """What is wrong names the field and both types, each field by itself."""
    newer = changed("lines", type={"type": "array", "items": LINE})
    assert unreadable(newer, RECORD)[0].startswith("lines: name")
    assert unreadable(
        {
            **changed("count", type="string"),
            "fields": [*changed("count", type="string")["fields"], {"name": "city", "type": "string"}],
        },
        RECORD,
    ) == [
        "count: reader type: string not compatible with writer type: int",
        "city: not in the other schema, and without a default",
    ]
    scale = changed("amount", type={**RECORD["fields"][3]["type"], "scale": 3})
    assert unreadable(scale, RECORD) == ["amount: scale 2 cannot be read as 3"]
    assert unreadable({**RECORD, "name": "Sold"}, RECORD) == ["expected: test.Sale"]


# what a union, a map, an enum or a nested record may hold, and what it may not become
INNER = [
    ({"type": "map", "values": "int"}, {"type": "map", "values": "string"}),
    ({"type": "enum", "name": "E", "symbols": ["a"]}, {"type": "enum", "name": "E", "symbols": ["b"]}),
    (["null", RECORD["fields"][3]["type"]], ["null", {**RECORD["fields"][3]["type"], "precision": 14}]),
    ({"type": "array", "items": RECORD["fields"][4]["type"]}, {"type": "array", "items": "long"}),
]


@pytest.mark.parametrize(("written", "read"), INNER)
def test_what_is_within_another_type_is_judged(written: Any, read: Any) -> None:
    """A change within a union, an array, a map or an enum is found like one of a field."""
    older, newer = changed("inner", type=written), changed("inner", type=read)
    assert unreadable(older, older) == []
    assert [why.partition(":")[0] for why in unreadable(newer, older)] == ["inner"]


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_the_schema_is_released(topic: Topic) -> None:
    """The working schema is the newest release: `task contracts:release` keeps it where it is not."""
    kept = releases(topic)
    assert list(kept) == list(range(1, len(kept) + 1))
    assert schema(kept[len(kept)]) == topic.avro


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_releases_are_compatible(topic: Topic) -> None:
    """Each released schema, and so the working one, is compatible with all before it under the topic's rule."""
    kept = {number: schema(path) for number, path in releases(topic).items()}
    for number, newer in kept.items():
        before = {older: kept[older] for older in kept if older < number}
        assert problems(topic, newer, before) == []


def test_no_released_schema_was_edited() -> None:
    """Every released file is what it was when it was released, and none is gone."""
    paths = [path for topic in TOPICS for path in releases(topic).values()]
    assert edited(LOCK.read_text("utf-8"), paths) == [], "new: ./taskw contracts:release; old: restore it"


def topic_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Topic:
    """A topic of one schema in a folder of its own."""
    monkeypatch.setattr(released, "TOPICS_FOLDER", folder)
    (folder / "test").mkdir()
    (folder / "test" / "value.avsc").write_text("{}", "utf-8")
    return catalogue()["sales.unified"].model_copy(update={"name": "test", "contract": "test", "avro": {}})


def test_a_release_is_kept_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed schema becomes the next number, an unchanged one nothing, an incompatible one an error."""
    topic = topic_in(tmp_path, monkeypatch)
    steps = [RECORD, changed("city", type="string", default=""), changed("city", type="string")]
    for step in steps[:2]:
        now = topic.model_copy(update={"avro": step})
        (tmp_path / "test" / "value.avsc").write_text(json.dumps(step), "utf-8")
        first = released.release(now)
        assert first is not None
        assert schema(first) == step
        assert released.release(now) is None
    assert [path.stem for path in sorted((tmp_path / "test" / "released").iterdir())] == ["1", "2"]
    with pytest.raises(released.ReleaseError, match=r"test \(FULL_TRANSITIVE\) against release 1: .* city: not in"):
        released.release(topic.model_copy(update={"avro": steps[2]}))


def test_an_edited_release_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A released file that was edited, removed or slipped in is named."""
    monkeypatch.setattr(released, "TOPICS_FOLDER", tmp_path)
    paths = [tmp_path / name for name in ("1.avsc", "2.avsc", "3.avsc")]
    for path in paths:
        path.write_text(path.name, "utf-8")
    lock = "".join(f"{released._line(path)}\n" for path in paths[:2])
    assert edited(lock, paths[:2]) == []
    paths[0].write_text("edited", "utf-8")
    assert edited(lock, [paths[0], paths[2]]) == ["1.avsc", "2.avsc", "3.avsc"]
