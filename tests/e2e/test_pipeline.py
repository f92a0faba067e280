"""The whole pipeline on real servers: what was sold through three sources is what REST serves."""

import csv
import io
import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import httpx
import obstore
import pytest
import zeep
from obstore.store import S3Store
from playwright.async_api import expect

from chassis.panels import groups
from contracts.rankings import RANKINGS
from deploy import metrics
from deploy.native import webhook_secrets
from deploy.native.processes import UNITS
from deploy.native.table import TABLE
from services.server_exporter.metrics import CLICKHOUSE_ASYNCHRONOUS
from tests import browser
from tests.connected.commands import placar, process
from tests.e2e import scrape
from tests.e2e.sales import Sale, known_sales, ranking, window_three_days_ago
from tests.runtime import Runtime, start_runtime

pytestmark = pytest.mark.timeout(900)

SECRETS = {
    name: f"hidden-{name}"
    for name in ("POSTGRES_PASSWORD", "CLICKHOUSE_PASSWORD", "S3_SECRET_KEY", *webhook_secrets.NAMES)
}
JAVA = ("kafka", "connect", "registry", "jobmanager", "taskmanager1", "taskmanager2")
SCRIPTS_SAY = ("Starting ",)  # Flink's start scripts, before there is a log
HEADER = ("sale_id", "salesman_name", "city", "country", "amount", "product", "sale_date")


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """The whole native runtime on free ports, in a folder of its own, with every profile; nothing sells by itself."""
    settings = {
        "PLACAR_PROFILES": ",".join(TABLE.profiles),
        "FILE_POLLER_INTERVAL_S": "2",
        "LEGACY_POLLER_INTERVAL_S": "2",
        "LEGACY_SOAP_RATE_PER_MINUTE": "0",
    }
    with start_runtime(tmp_path_factory.mktemp("e2e"), extra_env={**settings, **SECRETS}) as started:
        yield started


async def database(env: Mapping[str, str]) -> asyncpg.Connection:
    """A connection to the retailer's database."""
    return await asyncpg.connect(
        host="127.0.0.1",
        port=int(env["POSTGRES_PORT"]),
        user=env.get("POSTGRES_USER", "placar"),
        password=env.get("POSTGRES_PASSWORD", "placar"),
        database=env.get("POSTGRES_DB", "sales"),
    )


async def insert(connection: asyncpg.Connection, sale: Sale) -> int:
    """Sell in the database; returns the row's id."""
    salesman = await connection.fetchval(
        "INSERT INTO salesman (name, city, region) VALUES ($1, $2, 'Sudeste') RETURNING id",
        sale.salesman,
        sale.city,
    )
    row: int = await connection.fetchval(
        "INSERT INTO sales (salesman_id, salesman, city, country, amount, product, sale_date)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id",
        salesman,
        sale.salesman,
        sale.city,
        sale.country,
        sale.amount,
        sale.product,
        sale.time.replace(tzinfo=None),
    )
    return row


async def sell_in_postgres(env: Mapping[str, str], sales: list[Sale]) -> list[Sale]:
    """Insert the sales, then change the first one's city and amount, delete the second and add an invalid one."""
    connection = await database(env)
    try:
        rows = [await insert(connection, sale) for sale in sales]
        changed = replace(sales[0], city="Natal", amount=Decimal("99999.99"))
        await connection.execute(
            "UPDATE sales SET city = $1, amount = $2 WHERE id = $3", changed.city, changed.amount, rows[0]
        )
        await connection.execute("DELETE FROM sales WHERE id = $1", rows[1])
        await insert(connection, replace(sales[2], amount=Decimal("-5.00")))
    finally:
        await connection.close()
    return [changed, *sales[2:]]


def csv_row(sale: Sale) -> list[str]:
    """A sale as a line of a CSV file, its time in ISO 8601."""
    return [
        sale.sale_id,
        sale.salesman,
        sale.city,
        sale.country,
        str(sale.amount),
        sale.product,
        sale.time.isoformat().replace("+00:00", "Z"),
    ]


async def upload(env: Mapping[str, str], key: str, rows: list[list[str]]) -> None:
    """Put a CSV file into the bucket."""
    store = S3Store(
        env.get("S3_BUCKET", "sales-data"),
        endpoint=f"http://127.0.0.1:{env['S3_PORT']}",
        access_key_id=env.get("S3_ACCESS_KEY", "placar"),
        secret_access_key=env.get("S3_SECRET_KEY", "placar-secret"),
        region="us-east-1",
        client_options={"allow_http": True},
        virtual_hosted_style_request=False,
    )
    text = io.StringIO()
    csv.writer(text).writerows([list(HEADER), *rows])
    await obstore.put_async(store, key, text.getvalue().encode())


def sell_in_legacy(env: Mapping[str, str], sales: list[Sale]) -> None:
    """Register the sales at the SOAP service, and one with a negative amount."""
    client = zeep.Client(  # type: ignore[no-untyped-call]  # zeep ships no types
        f"http://127.0.0.1:{env['LEGACY_SOAP_PORT']}/ws/sales?wsdl"
    )
    invalid = replace(sales[0], sale_id="legacy-invalid", amount=Decimal("-1.00"))
    for sale in [*sales, invalid]:
        client.service.RegisterSale(
            {
                "saleId": sale.sale_id,
                "salesmanName": sale.salesman,
                "city": sale.city,
                "country": sale.country,
                "amount": sale.amount,
                "product": sale.product,
                "saleDate": int(sale.time.timestamp() * 1000),
            }
        )


async def served(env: Mapping[str, str], path: str, name: str, window: datetime) -> tuple[dict[str, Any], list[Any]]:
    """What REST answers for the window: the document, and its entries as (rank, name, total, count)."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{env['API_PORT']}") as client:
        answer = await client.get(path, params={"window": window.strftime("%Y-%m-%dT%H:%M:%SZ"), "limit": 10})
    if answer.status_code == 404:
        return {}, []
    answer.raise_for_status()
    document = httpx.Response(200, content=answer.content).json(parse_float=Decimal)
    entries = [(e["rank"], e[name], Decimal(e["totalSales"]), e["transactionCount"]) for e in document["rankings"]]
    return document, entries


async def becomes(
    env: Mapping[str, str], path: str, name: str, window: datetime, expected: list[Any]
) -> dict[str, Any]:
    """Poll REST until it serves exactly the expected entries; fails with the difference after two minutes."""
    async for attempt in scrape.within(120):
        with attempt:
            document, entries = await served(env, path, name, window)
            assert entries == expected
    return document


async def dead_letter_reasons(env: Mapping[str, str]) -> dict[str, int]:
    """Dead letters in ClickHouse by reason code."""
    query = "SELECT reason, toUInt32(count()) AS n FROM dead_letters GROUP BY reason FORMAT JSON"
    async with httpx.AsyncClient() as client:
        answer = await client.post(
            f"http://127.0.0.1:{env['CLICKHOUSE_HTTP_PORT']}/",
            params={
                "user": "placar",
                "password": env.get("CLICKHOUSE_PASSWORD", "placar"),
                "database": env.get("CLICKHOUSE_DB", "placar"),
            },
            content=query,
        )
    answer.raise_for_status()
    return {row["reason"]: row["n"] for row in answer.json()["data"]}


async def test_rest_serves_exactly_what_was_sold_through_three_sources(runtime: Runtime) -> None:
    """An update, a delete, a corrected file and one invalid row per source: REST equals the totals, to the cent."""
    env = runtime.env
    window = window_three_days_ago()

    in_postgres = await sell_in_postgres(env, known_sales("postgres", 15, window))
    in_files = known_sales("files", 14, window)
    foreign = [replace(sale, sale_id=f"ar-{n}", country="AR") for n, sale in enumerate(known_sales("files", 4, window))]
    rows = [csv_row(sale) for sale in [*in_files, *foreign]]
    invalid = csv_row(replace(in_files[0], sale_id="files-invalid"))
    invalid[4] = "abc"
    await upload(env, "known.csv", [*rows, invalid])
    in_legacy = known_sales("legacy", 13, window)
    sell_in_legacy(env, in_legacy)

    sold = [*in_postgres, *in_files, *foreign, *in_legacy]
    cities, salesmen = "/api/v1/sales/top-by-city", "/api/v1/sales/top-salesman"
    await becomes(env, cities, "city", window, ranking(sold, lambda sale: sale.city))
    brazil = [sale for sale in sold if sale.country == "BR"]
    before = await becomes(env, salesmen, "salesmanName", window, ranking(brazil, lambda sale: sale.salesman))
    assert before["status"] in {"final", "corrected"}

    corrected = [replace(in_files[0], amount=Decimal("77777.77")), *in_files[1:]]
    await upload(env, "known.csv", [csv_row(sale) for sale in [*corrected, *foreign]])
    sold = [*in_postgres, *corrected, *foreign, *in_legacy]
    brazil = [sale for sale in sold if sale.country == "BR"]
    await becomes(env, cities, "city", window, ranking(sold, lambda sale: sale.city))
    after = await becomes(env, salesmen, "salesmanName", window, ranking(brazil, lambda sale: sale.salesman))
    assert after["revision"] > before["revision"]
    assert after["status"] == "corrected"

    reasons = await dead_letter_reasons(env)
    assert reasons == {"amount_range": 2, "amount_malformed": 1}


def account(env: Mapping[str, str], window: datetime) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit status of `task ledger` for the hours around the window, and its numbers by source."""
    period = [(window + timedelta(hours=hours)).isoformat() for hours in (-2, 2)]
    run = subprocess.run(
        [sys.executable, "-m", "tools", "ledger", "--from", period[0], "--to", period[1], "--settle", "90", "--json"],
        env=dict(env),
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    return run.returncode, {line["source"]: line for line in lines if "at_source" in line}


async def test_the_ledger_accounts_for_what_was_sold(runtime: Runtime) -> None:
    """Every sale of the three sources is in its topic, in sales.unified and in ClickHouse, or a dead letter."""
    status, numbers = account(runtime.env, window_three_days_ago())
    assert status == 0, numbers
    steps = ("at_source", "topic", "unified", "clickhouse", "dead_letters")
    assert {source: tuple(line[step] for step in steps) for source, line in numbers.items()} == {
        "postgres": (15, 15, 14, 14, 1),  # one was deleted, an invalid one added
        "files": (18, 19, 18, 18, 1),  # the corrected file has the invalid row no more
        "legacy": (14, 14, 13, 13, 1),
        "shopify": (None, 0, 0, 0, 0),
        "stripe": (None, 0, 0, 0, 0),
    }
    async with httpx.AsyncClient() as client:
        for unit in ("CDC", "FILES", "LEGACY", "FILE_POLLER", "LEGACY_POLLER", "CLICKHOUSE_SINK"):
            answer = await client.get(f"http://127.0.0.1:{runtime.env[f'{unit}_OPS_PORT']}/metrics")
            lines = [line for line in answer.text.splitlines() if line.startswith("placar_records_unaccounted{")]
            assert lines, unit
            assert {line.rpartition(" ")[2] for line in lines} == {"0"}, lines


async def traced(env: Mapping[str, str], source: str, sale_id: str) -> list[str]:
    """What `placar trace` shows of a sale: each step, with what makes it special."""
    run = await placar(env, "trace", source, sale_id, "--json")
    assert run.status == 0, run.err
    steps = [
        (line["step"], " of a deletion" if line.get("deleted") else "", line.get("reason", "")) for line in run.lines
    ]
    return ["".join(each) for each in steps]


async def test_sales_of_every_source_are_traced_from_their_raw_records_to_their_ranks(runtime: Runtime) -> None:
    """An updated, a deleted, a corrected and a plain sale, and one rejected sale of each source."""
    env = runtime.env
    connection = await database(env)
    try:
        updated, rejected = [
            str(await connection.fetchval("SELECT id FROM sales WHERE amount = $1", Decimal(amount)))
            for amount in ("99999.99", "-5.00")
        ]
    finally:
        await connection.close()
    deleted = str(int(updated) + 1)
    ranked = ["ranking"] * len(RANKINGS)
    twice = ["raw", "raw", "unified", "unified", "clickhouse", *ranked]
    gone = " of a deletion"
    assert await traced(env, "postgres", updated) == twice
    assert await traced(env, "postgres", deleted) == [
        "raw", f"raw{gone}", "unified", f"unified{gone}", f"clickhouse{gone}", *ranked
    ]  # fmt: skip
    assert await traced(env, "files", "files-0") == twice
    assert await traced(env, "legacy", "legacy-0") == ["raw", "unified", "clickhouse", *ranked]
    for source, name, reason in (
        ("postgres", rejected, "amount_range"),
        ("files", "files-invalid", "amount_malformed"),
        ("legacy", "legacy-invalid", "amount_range"),
    ):
        assert await traced(env, source, name) == ["raw", f"dead letter{reason}"]


def test_every_line_of_a_log_is_one_event_and_holds_no_secret(runtime: Runtime) -> None:
    """Units and Java servers write JSON objects with the same keys; no password is in the log of any process."""
    logs = runtime.state_dir / "logs"
    for name in (*UNITS, *JAVA):
        lines = (logs / f"{name}.log").read_text("utf-8").splitlines()
        events = [json.loads(line) for line in lines if not line.startswith(SCRIPTS_SAY)]
        assert events, name
        assert [line for line in events if not {"event", "level", "timestamp"} <= set(line)] == []
        assert {line["unit"] for line in events} == {name}
    for path in logs.rglob("*.log"):
        assert not [line for line in path.read_text("utf-8", "replace").splitlines() if "hidden-" in line], path


async def test_the_first_rankings_come_from_the_seed(runtime: Runtime) -> None:
    """Right after `up` the newest window has rankings of the seeded sales, and the API is healthy."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{runtime.env['API_PORT']}") as client:
        newest = await client.get("/api/v1/sales/top-by-city", params={"window": "latest"})
        health = await client.get("/api/v1/health")
    assert newest.status_code == 200
    assert newest.json()["rankings"][0]["rank"] == 1
    assert health.json() == {"status": "UP", "clickhouse": "UP", "kafka": "UP"}


async def test_a_sale_is_seen_on_the_page(runtime: Runtime) -> None:
    """A sale committed in Postgres appears on the live page by itself, and its rank leads to it."""
    env = runtime.env
    sale = Sale("", "Iracema Alencar", "Olinda", "BR", Decimal("9876543210.99"), "GPU", datetime.now(UTC))
    async with (
        browser.chromium() as started,
        browser.opened(started, f"http://127.0.0.1:{env['API_PORT']}/", "sold") as page,
    ):
        rows = page.locator("tbody tr")
        await expect(rows.first).to_be_visible()
        connection = await database(env)
        try:
            await insert(connection, sale)
        finally:
            await connection.close()
        for name in (sale.city, sale.salesman):
            await expect(rows.filter(has_text=name)).to_contain_text("R$9,876,543,210.99")
        await rows.filter(has_text=sale.city).click()
        await expect(page.get_by_role("dialog").locator("tbody tr")).to_contain_text([sale.salesman])


@pytest.mark.parametrize("unit", UNITS)
async def test_a_unit_exports_what_it_declares_and_nothing_else(runtime: Runtime, unit: str) -> None:
    """Names, kinds and labels of a live scrape are those of the declarations; what needs no event has a value."""
    declared = {metric.name: metric for metric in metrics.declared(unit)}
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"http://127.0.0.1:{runtime.env[f'{unit.upper()}_OPS_PORT']}/metrics")).text
    scraped = scrape.parse(text)
    assert scraped.kinds == {name: metric.kind for name, metric in declared.items()}
    for name, metric in declared.items():
        assert metric.after or name in scraped.series, f"{name} has no value"
        for labels in scraped.series.get(name, []):
            assert labels == {*metric.labels, "unit"}, name


async def test_prometheus_collects_every_process(runtime: Runtime) -> None:
    """Each target answers, also Flink, Kafka, Connect, the registry and the S3 server."""
    prometheus = scrape.Prometheus(runtime.env)
    expected = {target["labels"]["instance"] for target in json.loads(targets_file(runtime).read_text("utf-8"))}
    async for attempt in scrape.within(60):
        with attempt:
            up = {one["metric"]["instance"]: one["value"][1] for one in await prometheus.query("up")}
            assert up == dict.fromkeys(expected, "1")
    assert {"kafka", "connect", "jobmanager", "taskmanager1", "taskmanager2", "registry", "s3"} <= expected


async def test_every_metric_of_a_rule_is_collected(runtime: Runtime) -> None:
    """No alert or recording rule waits for a name that nothing exports."""
    prometheus = scrape.Prometheus(runtime.env)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{runtime.env['API_PORT']}") as client:
        assert (await client.get("/api/v1/health")).status_code == 200  # the API's metrics begin with a request
        webhook = f"http://127.0.0.1:{runtime.env['WEBHOOKS_PORT']}/webhooks/stripe"
        assert (await client.post(webhook, json={})).status_code == 401  # and so do the receiver's
    names = {
        name for file in ("alerts.yml", "recording.yml") for rule in scrape.rules(file)
        for name in scrape.METRIC.findall(rule["expr"])
    }  # fmt: skip
    assert len(names) > 15
    async for attempt in scrape.within(120):
        with attempt:
            missing = {name for name in names if not await prometheus.query(f"count({name})")}
            assert missing == set()


async def test_what_clickhouse_computes_is_collected(runtime: Runtime) -> None:
    """ClickHouse's asynchronous metrics are collected once it has computed them."""
    prometheus = scrape.Prometheus(runtime.env)
    async for attempt in scrape.within(110):  # 90 s after its start, and a scrape
        with attempt:
            assert await prometheus.query(CLICKHOUSE_ASYNCHRONOUS.name)


async def test_every_panel_has_data(runtime: Runtime) -> None:
    """Each query of the dashboards has a number while sales are made, and the page of the health knows every figure."""
    env = runtime.env
    prometheus = scrape.Prometheus(env)
    queries = {panel.title: panel.query for panels in groups().values() for panel in panels}
    sale = Sale("", "Iracema Alencar", "Olinda", "BR", Decimal("12.50"), "GPU", datetime.now(UTC))
    connection = await database(env)
    try:
        async for attempt in scrape.within(180):
            with attempt:
                await insert(connection, sale)
                numbers = {
                    title: [one for one in await prometheus.query(query) if math.isfinite(float(one["value"][1]))]
                    for title, query in queries.items()
                }
                assert {title for title, series in numbers.items() if not series} == set()
    finally:
        await connection.close()
    address = f"http://127.0.0.1:{env['OPS_PORT']}/"
    wide = {"width": 1280, "height": 2200}
    async with browser.chromium() as started, browser.opened(started, address, "ops", viewport=wide) as page:
        await expect(page.locator(".panel")).to_have_count(len(queries))
        await expect(page.locator('.panel[data-state="unknown"]')).to_have_count(0)
        await expect(page.locator(".verdict")).to_have_attribute("data-state", re.compile("ok|warning|critical"))


def targets_file(runtime: Runtime) -> Path:
    """What Prometheus was told to scrape."""
    return runtime.state_dir / "conf" / "prometheus" / "targets.json"


Node = tuple[str, str]


def linked(jobs: Sequence[Mapping[str, Any]], start: Node, origin: str, destination: str) -> set[Node]:
    """The datasets that the jobs lead to from `start`, from their `origin` to their `destination`."""
    reached, new = set[Node](), {start}
    while new:
        reached |= new
        after = (job[destination] for job in jobs if new & {(d["namespace"], d["name"]) for d in job[origin]})
        new = {(d["namespace"], d["name"]) for datasets in after for d in datasets} - reached
    return reached


async def test_lineage_leads_from_every_source_to_every_table(runtime: Runtime) -> None:
    """A connected graph from table, bucket, SOAP operation and webhooks to both tables of rankings; every job runs."""
    env = runtime.env
    clickhouse = f"clickhouse://127.0.0.1:{env['CLICKHOUSE_NATIVE_PORT']}"
    tables = {(clickhouse, f"placar.{name}") for name in ("top_sales_city", "top_salesman_country")}
    sources = {
        (f"postgres://127.0.0.1:{env['POSTGRES_PORT']}", "sales.public.sales"),
        ("s3://sales-data", "/"),
        (f"soap://127.0.0.1:{env['LEGACY_SOAP_PORT']}", "GetRecentSales"),
        (f"http://127.0.0.1:{env['WEBHOOKS_PORT']}", "webhooks/shopify"),
        (f"http://127.0.0.1:{env['WEBHOOKS_PORT']}", "webhooks/stripe"),
    }
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{env['MARQUEZ_PORT']}/api/v1", timeout=20) as client:
        async for attempt in scrape.within(60):
            with attempt:
                jobs = (await client.get("/jobs")).raise_for_status().json()["jobs"]
                for source in sources:
                    assert tables <= linked(jobs, source, "inputs", "outputs"), source
                for table in tables:
                    assert sources <= linked(jobs, table, "outputs", "inputs"), table
        for where, name in {(d["namespace"], d["name"]) for job in jobs for d in (*job["inputs"], *job["outputs"])}:
            dataset = await client.get(f"/namespaces/{quote(where, safe='')}/datasets/{quote(name, safe='')}")
            assert dataset.raise_for_status().json()["fields"], (where, name)
    states = {job["name"]: job["latestRun"]["state"] for job in jobs}
    assert states == dict.fromkeys(
        (
            "sales-postgres",
            "file_poller",
            "legacy_poller",
            "legacy_soap",
            "cdc",
            "files",
            "legacy",
            "webhooks",
            "shopify",
            "stripe",
            "ranking",
            "clickhouse_sink",
            "api",
        ),
        "RUNNING",
    )

    run = await process("tools", env, "lineage")
    assert run.status == 0, run.err
    assert all(name in run.out for name in states)


def test_what_webhooks_tell_of_is_what_is_ranked(runtime: Runtime) -> None:
    """After repeats, retries and delays each sale is stored as the simulated shop has it, and ranked so."""

    def run(*arguments: str) -> str:
        ended = subprocess.run(
            [sys.executable, "-m", "tools", *arguments],
            env=dict(runtime.env),
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
        )
        assert ended.returncode == 0, (ended.stdout[-5000:], ended.stderr)
        return ended.stdout

    providers = ("--sources", "shopify,stripe,hubspot")
    sold = run("traffic", *providers, "--rate", "150", "--count", "2000", "--seed", "18", "--check", "200")
    assert sold.splitlines()[-1].endswith("all as it must be")
    run("audit", "--settle", "120")
