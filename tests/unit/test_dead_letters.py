"""The rules of the dead letters' command: what is meant, what is replayed, what a patch makes of a record."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chassis.dead_letters import ATTEMPT_HEADER
from contracts.catalogue import catalogue
from contracts.codec import Decoder, as_written, encode_body, parse
from contracts.json_avro import RejectedError, plain, typed
from contracts.text import one_line, printable
from tests.contract.registry import MemoryRegistry
from tools.__main__ import main
from tools.dead_letters import report
from tools.dead_letters.app import Outcome
from tools.dead_letters.patch import merge_patch, patched
from tools.dead_letters.transform import DeadLetter, Position, Query, Selection, position, unreplayable

AT = datetime(2026, 2, 19, 10, tzinfo=UTC)
FILES = catalogue()["sales.files"]


def dead_letter(number: int, **more: Any) -> DeadLetter:
    """A dead letter at offset `number`."""
    of: dict[str, Any] = {
        "position": Position(0, number),
        "topic": "sales.files",
        "partition": 1,
        "offset": 7,
        "key": b"k",
        "value": b"v",
        "reason": "wire_format",
        "detail": "",
        "unit": "files",
        "attempt": 1,
        "time": AT + timedelta(seconds=number),
    }
    return DeadLetter(**of | more)


@pytest.mark.parametrize(
    ("query", "meant"),
    [
        (Query(), True),
        (Query(frozenset({Position(0, 3)})), True),
        (Query(frozenset({Position(1, 3)})), False),
        (Query(reason="wire_format", topic="sales.files", unit="files", since=AT + timedelta(seconds=3)), True),
        (Query(reason="file_bom"), False),
        (Query(topic="sales.legacy"), False),
        (Query(unit="legacy"), False),
        (Query(since=AT + timedelta(seconds=4)), False),
    ],
)
def test_query(query: Query, meant: bool) -> None:
    """A dead letter is meant where every part of the query matches, the instant of `since` included."""
    assert query.matches(dead_letter(3)) == meant


def selected(query: Query, *dead_letters: DeadLetter) -> Mapping[Any, Any]:
    """What a replay selects."""
    selection = Selection(query)
    for one in dead_letters:
        selection.add(one)
    return selection.selected()


def test_of_the_same_record_the_newest_attempt_is_replayed() -> None:
    """Dead letters of the same topic, key and bytes are one: the newest attempt stands for all, in whatever order."""
    attempts = [dead_letter(1), dead_letter(3, attempt=3), dead_letter(2, attempt=2)]
    assert selected(Query(), *attempts) == {(0, 3): [(0, 1), (0, 3), (0, 2)]}
    others = [
        dead_letter(4, key=None),
        dead_letter(5, key=b""),
        dead_letter(6, value=None),
        dead_letter(7, topic="sales.legacy"),
    ]
    assert set(selected(Query(), *attempts, *others)) == {(0, n) for n in (3, 4, 5, 6, 7)}


def test_an_older_attempt_is_not_replayed_for_its_reason() -> None:
    """What has been rejected for another reason since is not replayed for the reason of the older attempt."""
    attempts = [dead_letter(1, reason="schema_unknown"), dead_letter(2, attempt=2, reason="country_unknown")]
    assert selected(Query(reason="schema_unknown"), *attempts) == {}
    assert set(selected(Query(reason="country_unknown"), *attempts)) == {(0, 2)}


@pytest.mark.parametrize(
    ("of", "remedy"),
    [
        ({}, None),
        ({"partition": -1, "reason": "row_ragged"}, "upload it again"),
        ({"partition": -1, "topic": "sales.legacy", "reason": "legacy_malformed"}, "in the legacy system"),
        ({"topic": "rankings.city"}, "task rebuild"),
        ({"topic": "sales.gone"}, "not in contracts/topics"),
    ],
)
def test_what_cannot_be_replayed_says_what_to_do(of: dict[str, Any], remedy: str | None) -> None:
    """A dead letter that never was in a topic, or whose topic keeps the newest record, is rejected with a remedy."""
    one = dead_letter(1, **of)
    why = unreplayable(one, catalogue().get(one.topic))
    assert why is None if remedy is None else why is not None and remedy in why


# the examples of RFC 7386, appendix A
RFC_7386 = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("target", "patch", "result"), RFC_7386)
def test_merge_patch(target: Any, patch: Any, result: Any) -> None:
    """A merge patch does what RFC 7386 says."""
    assert merge_patch(target, patch) == result


def written(topic: str, example: str) -> tuple[MemoryRegistry, bytes]:
    """A registry, and an example as its topic's producer writes it."""
    contract = catalogue()[topic]
    return MemoryRegistry(contract), encode_body(
        1, parse(contract.avro), typed(contract.avro, contract.examples()[example])
    )


@pytest.mark.parametrize("topic", list(catalogue()))
async def test_a_record_is_shown_as_its_example(topic: str) -> None:
    """What show prints of a record is the JSON in which people write examples and patches."""
    contract = catalogue()[topic]
    for name, example in contract.examples().items():
        registry, content = written(topic, name)
        assert plain((await as_written(registry.client, content)).record) == example
        assert plain(typed(contract.avro, example)) == example


async def test_a_patch_changes_a_record() -> None:
    """A patched record differs in what the patch says, keeps the id of its schema, and is read by the contract."""
    registry, content = written("sales.files", "canonical")
    made, values = await patched(registry.client, FILES, content, {"country": "PT"})
    assert made[:5] == content[:5]
    assert values == {**FILES.examples()["canonical"], "country": "PT"}
    assert plain(await Decoder(registry.client, FILES).decode(made)) == values


async def test_a_patch_keeps_what_the_contract_does_not_name() -> None:
    """A column that only the producer's schema has is still there after the patch."""
    registry = MemoryRegistry(FILES)
    more = {**FILES.avro, "fields": [*FILES.avro["fields"], {"name": "channel", "type": "string"}]}
    registry.schemas[2] = more
    content = encode_body(2, parse(more), typed(more, {**FILES.examples()["canonical"], "channel": "shop"}))
    made, values = await patched(registry.client, FILES, content, {"amount": "1.00"})
    assert values["channel"] == "shop"
    assert made[4] == 2
    assert plain((await as_written(registry.client, made)).record) == values


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ({"price": "1.00"}, "does not fit schema id 1: field price is not in the schema; there are "),
        ({"amount": 1.5}, "amount"),
        ({"amount": None}, "amount"),
        ({"row_number": "one"}, "row_number"),
        ({"row_number": 2**63}, "row_number"),
        ({"last_modified": "yesterday"}, "does not fit schema id 1"),
        ({"last_modified": 7}, "does not fit schema id 1"),
    ],
)
async def test_a_patch_that_does_not_fit_is_rejected(patch: dict[str, Any], message: str) -> None:
    """An unknown field, a missing one and a wrong type are named."""
    registry, content = written("sales.files", "canonical")
    with pytest.raises(RejectedError) as rejected:
        await patched(registry.client, FILES, content, patch)
    assert message in str(rejected.value)


async def test_a_patch_of_another_topics_record_is_rejected() -> None:
    """A record that its own schema can read but the topic's contract cannot is not sent."""
    registry, legacy = MemoryRegistry(FILES), catalogue()["sales.legacy"]
    registry.schemas[2] = legacy.avro
    content = encode_body(2, parse(legacy.avro), typed(legacy.avro, legacy.examples()["canonical"]))
    with pytest.raises(RejectedError, match=r"does not fit the contract of sales\.files"):
        await patched(registry.client, FILES, content, {"city": "Recife"})


@pytest.mark.parametrize("content", [b"", b"a,b,c", b"\0\0\0\0\7x", b"\0\0\0\0\1\4"])
async def test_bytes_that_are_no_record_cannot_be_patched(content: bytes) -> None:
    """There is nothing to patch in bytes that cannot be read, and the message says so."""
    with pytest.raises(RejectedError, match="cannot be read, so there is nothing to patch"):
        await patched(MemoryRegistry(FILES).client, FILES, content, {"city": "Recife"})


async def test_a_patched_change_needs_a_higher_version() -> None:
    """A unified sale that is patched under its old version is rejected: of equal versions the first counts."""
    unified = catalogue()["sales.unified"]
    registry, content = written("sales.unified", "sale")
    with pytest.raises(RejectedError, match="raise it too"):
        await patched(registry.client, unified, content, {"city": "Recife"})
    version = unified.examples()["sale"]["version"]
    _, values = await patched(registry.client, unified, content, {"city": "Recife", "version": version + 1})
    assert values["city"] == "Recife"


@pytest.mark.parametrize(
    ("content", "as_text", "line"),
    [
        (b"a\nb", "a\nb", "a\\nb"),
        ("João".encode(), "João", "João"),
        (b"\0\0\0\0\1", None, "0000000001"),
        (b"\xff", None, "ff"),
        (b"x" * 30, "x" * 30, "x" * 17 + "..."),
    ],
)
def test_bytes_are_shown_as_what_they_are(content: bytes, as_text: str | None, line: str) -> None:
    """Text is shown as text, all else in hexadecimal; in a table on one short line."""
    assert printable(content) == as_text
    assert one_line(content, 20) == line
    assert one_line(None, 20) == "-"


async def test_a_table_has_the_newest(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Of many dead letters a table has the newest, oldest of them first, and says that there are more."""
    monkeypatch.setattr(report, "SHOWN", 3)
    tie = [replace(dead_letter(number), time=AT) for number in (9, 8)]

    async def listed(numbers: list[DeadLetter]) -> AsyncIterator[tuple[DeadLetter, str | None]]:
        for one in numbers:
            yield one, None

    await report.print_list(listed([dead_letter(number) for number in (5, 1, 4, 2, 3)]), as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["0-3", "0-4", "0-5"]
    assert lines[4] == "5 dead letters, of which the newest 3 are shown (--json shows all)"
    await report.print_list(listed(tie), as_json=False)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:3]] == ["0-8", "0-9"]
    await report.print_list(listed([dead_letter(number) for number in range(9)]), as_json=True)
    assert len(capsys.readouterr().out.splitlines()) == 9


@pytest.mark.parametrize(("identity", "expected"), [("2-17", (2, 17)), ("0-0", (0, 0))])
def test_id(identity: str, expected: tuple[int, int]) -> None:
    """An id is partition and offset."""
    assert position(identity) == expected
    assert str(position(identity)) == identity


@pytest.mark.parametrize("wrong", ["", "7", "a-b", "1-2-3", "-1-2", "1--2", "99999999999-1"])
def test_wrong_id(wrong: str) -> None:
    """Anything else is no id."""
    with pytest.raises(ValueError, match="is not the id of a dead letter, such as 2-17"):
        position(wrong)


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Outcome(1, 0, 0), 0),
        (Outcome(0, 0, 1), 0),
        (Outcome(0, 0, 0), 1),
        (Outcome(1, 1, 0), 1),
        (Outcome(1, 0, 0, "no broker"), 1),
    ],
)
def test_status(outcome: Outcome, status: int) -> None:
    """0 when done, 1 when nothing fits or not everything could be replayed."""
    assert outcome.status == status


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["show"], "ID"),
        (["show", "x"], "'x' is not the id of a dead letter, such as 2-17"),
        (["list", "--reason", "unheard_of"], "'unheard_of' is not one of wire_format, "),
        (["list", "--since", "yesterday"], "'yesterday': not an RFC 3339 instant such as 2026-02-19T10:00:00Z"),
        (["list", "--since", "20260219T10"], "not an RFC 3339 instant"),
        (["replay", "--patch", "/nowhere/patch.json"], "'/nowhere/patch.json' is no JSON file"),
        (["replay", "--topic", "sales.gone"], "'sales.gone' is not one of "),
    ],
)
def test_wrong_usage(wrong: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong command line ends with status 2 and one line that says what is wrong."""
    assert main(["dead-letters", *wrong]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err


def test_an_instant_without_a_zone_is_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """--since takes an instant in any zone, and one that names none as UTC."""
    queries: list[Query] = []

    async def matching(_: object, query: Query) -> AsyncIterator[tuple[DeadLetter, str | None]]:
        queries.append(query)
        return
        yield

    monkeypatch.setattr("tools.dead_letters.app.matching", matching)
    for text in ("2026-02-19T10:00:00", "2026-02-19T07:00-03:00", "2026-02-19T10:00:00Z"):
        assert main(["dead-letters", "list", "--since", text]) == 0
    assert {query.since for query in queries} == {AT}


def test_the_header_of_an_attempt_is_what_units_read() -> None:
    """The name under which an attempt travels does not change: units of an older version read it."""
    assert ATTEMPT_HEADER == "placar-attempt"
