"""The rules of the ledger: what a sale is called at each step, and where one is missing."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chassis.errors import NotDoneError
from chassis.results import Context, Output
from contracts.catalogue import catalogue
from contracts.json_avro import typed
from contracts.time import to_ms
from contracts.versions import MAX_VERSION
from streams.shopify import transform as shopify
from streams.stripe import transform as stripe
from streams.validation import InvalidError
from streams.validation import text as unit_text
from tests.webhook_events import NOW, charge_event, order_event
from tools.__main__ import main
from tools.ledger import app
from tools.ledger.app import show
from tools.ledger.sources import read_csv, sales_of
from tools.ledger.transform import (
    STEPS,
    Account,
    Period,
    Step,
    Steps,
    account,
    count_missing,
    enter_newest,
    missing_at,
    still_missing,
    within,
)
from tools.options import Source
from tools.raw_sales import RAW, SaleVersion, found, of_files, of_legacy, of_postgres, of_unified, sale_id, written

AT = to_ms(datetime(2026, 2, 19, 10, 15, tzinfo=UTC))
HOUR = Period(AT, AT + 3_600_000)
HERE, DELETED, NEVER = SaleVersion(AT, 5), SaleVersion(AT, 6, deleted=True), None
PAYMENT = SaleVersion(None, MAX_VERSION, deleted=True)


def steps(*seen: SaleVersion | None, cut: set[Step] | None = None, dead: Step | None = None) -> Steps:
    """The four steps, each with the sale `s` as given."""
    made = Steps(cut=cut or set())
    for step, one in zip(STEPS, seen, strict=True):
        if one is not None:
            made.sales[step]["s"] = one
    if dead is not None:
        made.dead[dead].add("s")
    return made


@pytest.mark.parametrize(
    ("source", "seen", "step"),
    [
        ("postgres", (HERE, HERE, HERE, HERE), None),
        ("postgres", (HERE, NEVER, NEVER, NEVER), "topic"),
        ("postgres", (HERE, HERE, NEVER, NEVER), "unified"),
        ("postgres", (HERE, HERE, HERE, NEVER), "clickhouse"),
        ("postgres", (HERE, NEVER, HERE, HERE), "topic"),
        ("postgres", (HERE, HERE, NEVER, HERE), "unified"),
        # what the database does not have any more must be deleted everywhere
        ("postgres", (NEVER, DELETED, DELETED, DELETED), None),
        ("postgres", (NEVER, HERE, HERE, HERE), "topic"),
        # deleted by a resnapshot: the raw topic does not know
        ("postgres", (NEVER, HERE, DELETED, DELETED), None),
        ("postgres", (NEVER, HERE, DELETED, HERE), "clickhouse"),
        ("postgres", (NEVER, DELETED, HERE, HERE), "unified"),
        ("postgres", (NEVER, DELETED, DELETED, HERE), "clickhouse"),
        ("postgres", (NEVER, DELETED, NEVER, NEVER), None),
        ("postgres", (HERE, HERE, DELETED, DELETED), "unified"),
        # a file that vanished or a book that forgot changes nothing
        ("files", (NEVER, HERE, HERE, HERE), None),
        ("files", (NEVER, NEVER, HERE, HERE), None),
        ("files", (NEVER, HERE, NEVER, NEVER), "unified"),
        ("legacy", (NEVER, NEVER, HERE, NEVER), "clickhouse"),
        # a charge that an order names is a payment; whatever the charge's own newest event is
        ("stripe", (NEVER, HERE, PAYMENT, PAYMENT), None),
        ("stripe", (NEVER, PAYMENT, PAYMENT, PAYMENT), None),
        ("stripe", (NEVER, PAYMENT, NEVER, NEVER), None),
        ("stripe", (NEVER, PAYMENT, HERE, HERE), "unified"),
        ("stripe", (NEVER, HERE, PAYMENT, HERE), "clickhouse"),
        ("stripe", (NEVER, HERE, DELETED, DELETED), "unified"),
        ("shopify", (NEVER, HERE, NEVER, NEVER), "unified"),
        ("shopify", (NEVER, DELETED, NEVER, NEVER), None),
        # ClickHouse has the sale, but not its newest version
        ("files", (HERE, HERE, SaleVersion(AT, 7), SaleVersion(AT, 6)), "clickhouse"),
        ("files", (HERE, HERE, SaleVersion(AT, 7), SaleVersion(AT, 8)), None),
    ],
)
def test_missing_at(source: str, seen: tuple[SaleVersion | None, ...], step: Step | None) -> None:
    """A sale is missing at the first step that has it otherwise than the step before."""
    assert missing_at(source, steps(*seen), "s") == step


def test_retention_loses_nothing() -> None:
    """Where a topic has lost its beginning, a sale that a later step has is not missing there; else it is."""
    passed = steps(HERE, NEVER, HERE, HERE, cut={"topic"})
    assert missing_at("postgres", passed, "s") is None
    assert missing_at("postgres", steps(HERE, NEVER, NEVER, HERE, cut={"topic", "unified"}), "s") is None
    assert missing_at("postgres", steps(HERE, NEVER, NEVER, NEVER, cut={"topic", "unified"}), "s") == "topic"


def test_a_dead_letter_is_not_missing() -> None:
    """A sale that became a dead letter on its way to the step that lacks it is counted apart."""
    counted = account("files", steps(HERE, HERE, NEVER, NEVER, dead="unified"), {"s"})
    assert (counted.dead, counted.counts["topic"], counted.counts["unified"]) == (1, 1, 0)
    assert not any(counted.missing.values())
    other = account("files", steps(HERE, HERE, HERE, NEVER, dead="unified"), {"s"})
    assert (other.dead, other.missing["clickhouse"]) == (0, ["s"])


def test_account_counts_what_is_there() -> None:
    """Deleted sales are not counted; missing ones are named in order."""
    made = steps(HERE, HERE, DELETED, DELETED)
    for name in ("b", "a"):
        made.sales["source"][name] = HERE
    counted = account("postgres", made, {"s", "a", "b"})
    assert counted.counts == {"source": 3, "topic": 1, "unified": 0, "clickhouse": 0}
    assert counted.missing == {"source": [], "topic": ["a", "b"], "unified": ["s"], "clickhouse": []}


def test_a_source_that_delivers_is_not_asked() -> None:
    """What a provider has is unknown, not 0; the table shows a dash."""
    counted = account("shopify", steps(NEVER, HERE, HERE, HERE), {"s"})
    assert counted.counts == {"source": None, "topic": 1, "unified": 1, "clickhouse": 1}


def test_a_period_is_of_any_step() -> None:
    """A sale belongs to the period when it happened then at any step: its start included, its end not."""
    made = Steps()
    made.sales["source"] |= {
        "first": SaleVersion(100),
        "last": SaleVersion(199),
        "end": SaleVersion(200),
        "before": SaleVersion(99),
    }
    made.sales["clickhouse"] |= {"elsewhere": SaleVersion(150), "end": SaleVersion(200)}
    made.sales["topic"]["unreadable"] = SaleVersion(None)
    assert within(made, Period(100, 200)) == {"first", "last", "elsewhere"}


def test_the_newest_version_counts() -> None:
    """Of several records of a sale the highest version counts, whatever their order."""
    sales: dict[str, SaleVersion] = {}
    entered = [
        enter_newest(sales, "s", version) for version in (SaleVersion(1, 2), SaleVersion(2, 3), SaleVersion(3, 1))
    ]
    assert entered == [True, True, False]
    assert not enter_newest(sales, None, SaleVersion(9, 9))
    assert sales == {"s": SaleVersion(2, 3)}


@given(st.text(max_size=20))
@example("  a b\tc ")
@example("Joa\u0303o")
@example("a\u00a0b")
def test_ids_are_written_as_the_units_write_them(raw: str) -> None:
    """A sale's id is what the streams units make of it, so that it is found in what they publish."""
    try:
        expected = unit_text("sale_id", raw)
    except InvalidError:
        return
    assert sale_id(raw) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-02-19T10:15:00Z", AT),
        (" 2026-02-19 10:15:00 ", AT),
        ("2026-02-19T07:15:00-03:00", AT),
        ("2026-02-19t10:15:00.123z", AT + 123),
        ("yesterday", None),
        ("", None),
        (None, None),
        ("0001-01-01T00:00:00+14:00", -62135647200000),
    ],
)
def test_written(text: str | None, expected: int | None) -> None:
    """A date as the files have it, in UTC where it names no zone; None where it is none."""
    assert written(text) == expected


def record(topic: str, name: str) -> dict[str, Any]:
    """An example as it is decoded."""
    contract = catalogue()[topic]
    made: dict[str, Any] = typed(contract.avro, contract.examples()[name])
    return made


def test_records_name_sale_time_and_version() -> None:
    """Each topic's records have the same of a sale: its id, when it happened, a version, whether it is deleted."""
    insert, change, delete = (of_postgres(record("sales.postgres", name)) for name in ("insert", "update", "delete"))
    assert (insert[0], insert[1].at, insert[1].deleted) == ("42", AT + 123, False)
    assert (delete[0], delete[1].deleted) == ("42", True)
    assert insert[1].version < change[1].version < delete[1].version
    assert of_postgres(record("sales.postgres", "heartbeat"))[0] is None
    first, second = (of_files(record("sales.files", name)) for name in ("canonical", "second_upload"))
    assert (first[0], first[1].at) == ("F-1001", AT)
    assert first[1].version < second[1].version
    assert of_legacy(record("sales.legacy", "canonical"))[:1] == ("L-77001",)
    assert of_legacy(record("sales.legacy", "canonical"))[1].at == AT
    assert of_unified(record("sales.unified", "sale")) == SaleVersion(AT + 123, 72057594069599936)
    assert of_unified(record("sales.unified", "deleted")).deleted


def unify(unit: Any, record: dict[str, Any]) -> list[tuple[str, str, SaleVersion]]:
    """What a streams service makes of a record."""
    output = unit.transform(record, Context(NOW, NOW), currency="BRL")
    outputs = [output, *output.also] if isinstance(output, Output) else []
    return [(each.value["source"], each.value["sale_id"], of_unified(each.value)) for each in outputs]


@pytest.mark.parametrize(
    "record",
    [
        order_event(),
        order_event(cancelled_at="2026-02-19T08:00:00-03:00"),
        order_event(test=True, note_attributes=[{"name": "stripe_charge", "value": "ch_1"}]),
        order_event("orders/delete", financial_status="refunded"),
        order_event(current_total_price="0.00"),
        order_event(note_attributes=[{"name": "stripe_payment_intent", "value": " pi_1 "}, {"name": "a", "value": 7}]),
        charge_event(),
        charge_event(amount_refunded=450),
        charge_event("charge.refunded", amount_refunded=18450),
        charge_event("charge.updated", metadata={"order_id": "1001"}),
        charge_event(payment_intent=None),
    ],
)
def test_the_ledger_reads_webhooks_as_the_streams_services_do(record: dict[str, Any]) -> None:
    """The same sales, versions and deletions, and of those that are there the same time."""
    source = record["provider"]
    made = {each[:2]: each[2] for each in unify(shopify if source == "shopify" else stripe, record)}
    read = {(of, str(name)): version for of, name, version in found(source, {**record, "object_id": "1001"})}
    assert made
    assert {key: (each.version, each.deleted) for key, each in read.items()} == {
        key: (each.version, each.deleted) for key, each in made.items()
    }
    assert all(read[key].at == each.at for key, each in made.items() if not each.deleted)


@pytest.mark.parametrize(
    "record",
    [
        charge_event(captured=False, amount_captured=0),
        charge_event(status="failed"),
        charge_event(live=False),
        charge_event(metadata={"order_id": "1001"}),
    ],
)
def test_a_charge_that_never_was_a_sale_is_missing_nowhere(record: dict[str, Any]) -> None:
    """The streams service ignores it; whatever else is known of the sale is newer."""
    assert unify(stripe, record) == []
    assert found("stripe", record) == [("stripe", "pi_1", SaleVersion(AT, 0, deleted=True))]


def test_what_no_streams_service_can_read_is_about_the_object() -> None:
    """So that its dead letter is counted for it; it names no payment."""
    for source, event in (("shopify", order_event()), ("stripe", charge_event())):
        assert found(source, {**event, "body": b"[1]", "object_id": "one"}) == [(source, "one", SaleVersion(None))]


@pytest.mark.parametrize("topic", [*(topic for topic, _ in RAW.values()), "sales.unified"])
def test_every_example_can_be_read(topic: str) -> None:
    """No example, valid or not, stops the ledger."""
    contract = catalogue()[topic]
    read: Mapping[str, Any] = dict(RAW.values())
    cases = contract.examples("invalid").values()
    records = [case["record"] for case in cases if set(case) == {"record", "reason"}]
    for one in [*contract.examples().values(), *records]:
        read.get(topic, of_unified)(typed(contract.avro, one))


HEADER = b"sale_id,salesman_name,city,country,amount,product,sale_date\n"


def test_csv_rows_of_the_period() -> None:
    """Rows of the period are sales, whatever the chunks; what is no row is none, and another header is no file."""
    rows = HEADER + (
        b"F-1,Ana,Recife,BR,1.00,SSD,2026-02-19T10:15:00Z\n\n"
        b'"F-2","A ""B""\nC",Recife,BR,1.00,SSD,2026-02-19T10:15:01Z\r\n'
        b"F-3,Ana,Recife\nF-4,Ana,Recife,BR,1.00,SSD,soon\n"
        b" ,Ana,Recife,BR,1.00,SSD,2026-02-19T10:15:00Z\n"
        b"F-5,Ana,Recife,BR,1.00,SSD,2026-02-20T10:15:00Z"
    )

    def sales(*chunks: bytes) -> dict[str, SaleVersion]:
        read: dict[str, SaleVersion] = {}
        read_csv(chunks, HOUR, read)
        return read

    expected = {"F-1": SaleVersion(AT), "F-2": SaleVersion(AT + 1000)}
    for size in (1, 7, 1000):
        assert sales(*(rows[at : at + size] for at in range(0, len(rows), size))) == expected
    odd = b'F-6,Ana,Recife,BR,1.00,"TV 32" LED",2026-02-19T10:15:00Z\n'
    assert sales(HEADER + odd + rows.removeprefix(HEADER)) == expected
    assert sales(rows.replace(b"\n", b"\r")) == {}
    assert sales(b"a,b\n", rows) == {}


def test_soap_sales_of_the_period() -> None:
    """Sales of the period are read from an answer; a fault, an entity or a cut answer is an error, not no sales."""
    answer = (
        '<e:Envelope xmlns:e="u"><e:Body><s:GetRecentSalesResponse xmlns:s="urn:placar:sales"><s:sales>'
        f"<s:Sale><s:saleId>L-1</s:saleId><s:saleDate>{AT}</s:saleDate></s:Sale>"
        f"<s:Sale><s:saleId>L-2</s:saleId><s:saleDate>{AT + 10}</s:saleDate></s:Sale>"
        "<s:Sale><s:saleId>L-3</s:saleId></s:Sale>"
        "</s:sales></s:GetRecentSalesResponse></e:Body></e:Envelope>"
    ).encode()
    assert sales_of(answer, Period(AT, AT + 10)) == {"L-1": SaleVersion(AT)}
    for wrong in (answer[:-30], b"<fault/>", b"", b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'):
        with pytest.raises(NotDoneError):
            sales_of(wrong, HOUR)


def an_account(**missing: list[str]) -> Account:
    """An account in which these are missing."""
    return Account(dict.fromkeys(STEPS, 3), 1, {step: missing.get(step, []) for step in STEPS})


def test_only_what_stays_missing_is_missing() -> None:
    """A sale that was missing at the first reading and is there at the next is not missing; a new one is not yet."""
    before = {"files": an_account(topic=["a", "b", "c"])}
    now = {"files": replace(an_account(topic=["b"], unified=["c", "d"]), dead=2)}
    left = still_missing(before, now)
    assert (left["files"].missing["topic"], left["files"].missing["unified"]) == (["b"], ["c"])
    assert (left["files"].dead, count_missing(left)) == (2, 2)


def test_reports(capsys: pytest.CaptureFixture[str]) -> None:
    """The table names the first missing sales of each step, JSON all of them; both have the numbers."""
    names = [f"F-{number}" for number in range(25)]
    accounts = {"files": an_account(unified=names), "legacy": replace(an_account(clickhouse=["L-1"]), outdated=["L-2"])}
    show(accounts, HOUR, as_json=False)
    out = capsys.readouterr().out
    heading, files, *_ = out.splitlines()
    assert " ".join(heading.split()) == ("sales of at source topic unified clickhouse dead letters missing outdated")
    assert files.split() == ["files", "3", "3", "3", "3", "1", "25", "0"]
    assert "25 of files missing in sales.unified: F-0, F-1," in out
    assert "F-19 and 5 more (--json shows all)" in out
    assert "1 of legacy missing in ClickHouse: L-1\n" in out
    assert "1 of legacy outdated, their newest change is a dead letter: L-2\n" in out
    assert out.endswith("2026-02-19T10:15:00Z to 2026-02-19T11:15:00Z: 26 sales are missing\n")
    show(accounts, HOUR, as_json=True)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["sale_id"] for line in lines if "missing_in" in line] == [*names, "L-1"]
    assert [line["sale_id"] for line in lines if line.get("outdated") is True] == ["L-2"]
    assert lines[-2] == {
        "from": "2026-02-19T10:15:00Z",
        "to": "2026-02-19T11:15:00Z",
        "source": "files",
        "at_source": 3,
        "topic": 3,
        "unified": 3,
        "clickhouse": 3,
        "dead_letters": 1,
        "missing": 25,
        "outdated": 0,
    }
    show({"files": an_account()}, HOUR, as_json=False)
    assert capsys.readouterr().out.endswith("nothing is missing\n")


@pytest.mark.parametrize(
    ("dead", "stored", "outdated"),
    [((1, 7), HERE, ["s"]), ((1, 6), HERE, []), ((1, 7), DELETED, []), ((1, 7), NEVER, [])],
    ids=["newest", "an older one", "deleted", "never stored"],
)
def test_a_sale_whose_newest_change_is_a_dead_letter_is_outdated(
    dead: tuple[int, int], stored: SaleVersion | None, outdated: list[str]
) -> None:
    """It is nowhere missing, but ranked as it was before the change."""
    made = steps(HERE, HERE, HERE, HERE) if stored is HERE else steps(NEVER, stored, stored, stored)
    made.newest["s"] = (1, 7)
    made.dead_records.add(dead)
    counted = account("postgres", made, {"s"})
    assert (counted.outdated, count_missing({"postgres": counted})) == (outdated, 0)


@pytest.mark.parametrize(
    ("wrong", "option"),
    [
        (["--from", "soon"], "--from"),
        (["--settle", "-1"], "--settle"),
        (["--source", "moon"], "--source"),
        (["--from", "2999-01-01T00:00:00Z"], "--from"),
    ],
)
def test_wrong_usage(wrong: list[str], option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong command line ends with status 2, after a line that names the option."""
    assert main(["ledger", *wrong]) == 2
    assert option in capsys.readouterr().err


def test_the_period_is_the_last_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a period it is the day before --to, and without sources all."""
    compared: list[tuple[Any, ...]] = []

    async def compare(_: Any, __: Any, names: Any, period: Period, **___: Any) -> dict[str, Account]:
        compared.append((names, period))
        return {}

    monkeypatch.setattr(app, "compare", compare)
    assert main(["ledger", "--to", "2026-02-19T10:15:00Z"]) == 0
    assert main(["ledger", "--to", "2026-02-19T10:15:00Z", "--source", "files", "--source", "legacy"]) == 0
    day = Period(AT - 86_400_000, AT)
    assert compared == [(list(Source), day), (["files", "legacy"], day)]
