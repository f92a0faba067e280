"""The API is what its OpenAPI document says: examples answer, generated input finds nothing, a made client works."""

import asyncio
import importlib
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from contracts.rankings import RANKINGS
from services.api.examples import COMPETITORS
from services.clickhouse_sink.transform import rows
from tests.connected.serving import Database, database, ranking_set
from tests.connected.test_api import api

START = datetime(2026, 2, 19, 10, tzinfo=UTC)
FIFTEEN_DIGITS = Decimal("9999999999999.99")
HIGHEST = Decimal("9999999999999999.99")
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def fill(db: Database) -> None:
    """What the document's examples ask for: some hours, the newest of them provisional, with the sales of one."""
    plan = db.plans["sales.unified"]
    sales = [
        {
            "sale_id": f"s{number}",
            "source": "files",
            **{ranking.column: COMPETITORS[ranking.name] for ranking in RANKINGS},
            "country": "BR",
            "amount": FIFTEEN_DIGITS if number == 1 else Decimal("10.10"),
            "event_time": START + timedelta(seconds=number),
            "ingestion_time": START,
            "version": 2**62 + number,
            "deleted": False,
        }
        for number in range(4)
    ]
    await db.store.insert(plan.mapping.table, plan.columns, [row for sale in sales for row in rows(plan, sale)])
    for hours, status in ((-1, "corrected"), (0, "final"), (1, "provisional")):
        start = START + timedelta(hours=hours)
        for ranking in RANKINGS:
            names = [COMPETITORS[ranking.name], "Another"]
            country = "BR" if ranking.per_country else ""
            record = ranking_set(ranking.topic, start, 7, names, country=country, status=status)
            record["entries"][0]["total_sales"] = HIGHEST if ranking.per_country else FIFTEEN_DIGITS
            await db.write(ranking.topic, record)
        sold = {**sales[0], "sale_id": f"at {hours}", "event_time": start}
        if hours:
            await db.store.insert(plan.mapping.table, plan.columns, rows(plan, sold))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(
    servers: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API as a process over a database with the examples' rankings."""
    async with database(servers) as db:
        await fill(db)
        folder = tmp_path_factory.mktemp("api")
        async with api(servers, db, folder, API_RATE_LIMIT_PER_S="0") as (client, process):
            yield client
            assert '"level": "error"' not in process.logged()


def requests_of(operation: Mapping[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """The requests that the examples of an operation's parameters make, by the examples' name: query and headers.

    Where a required parameter has no example of that name, its first one is taken.
    """
    parameters = operation.get("parameters", ())
    requests: dict[str, dict[str, dict[str, Any]]] = {}
    for case in {case for parameter in parameters for case in parameter["examples"]}:
        request = requests.setdefault(case, {"query": {}, "header": {}})
        for parameter in parameters:
            examples = parameter["examples"]
            if case in examples or parameter["required"]:
                value = examples.get(case, next(iter(examples.values())))["value"]
                request[parameter["in"]][parameter["name"]] = json.dumps(value) if value is True else value
    return requests


async def test_examples_answer(served: httpx.AsyncClient) -> None:
    """Every example of a parameter is part of a request that is answered with 200 by a real API with data."""
    document = (await served.get("/openapi.json")).json()
    answered = 0
    assert {f"/api/v1/sales/{ranking.path}" for ranking in RANKINGS} < set(document["paths"])
    for path, operations in document["paths"].items():
        for case, request in requests_of(operations["get"]).items():
            answer = await served.get(path, params=request["query"], headers=request["header"])
            assert answer.status_code == 200, f"{path} {case}: {answer.text}"
            answered += 1
    assert answered >= 12


@pytest.mark.timeout(240)
async def test_generated_input_finds_nothing(served: httpx.AsyncClient, tmp_path: Path) -> None:
    """schemathesis, with input that fits the document and input that does not, finds nothing in any of its checks."""
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{served.base_url}/openapi.json"]
    options = "--checks all --mode all --generation-deterministic --max-examples 25 --phases coverage,fuzzing"
    process = await asyncio.create_subprocess_exec(
        *command,
        *options.split(),
        *("--no-color", "--continue-on-failure", "--workers", "1", "--request-timeout", "10"),
        cwd=tmp_path,  # it keeps what it found there
        env={**os.environ, "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.connected.api_hooks"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()[-6000:]
    assert b"No issues found" in output, output.decode()[-3000:]


@pytest.fixture(scope="module")
def generate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for the generated client, importable while the module's tests run."""
    folder = tmp_path_factory.mktemp("client")
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


async def test_generated_client(served: httpx.AsyncClient, generate: Path) -> None:
    """A typed client that is generated from the document reads rankings, pages and problems as what they are."""
    document = generate / "openapi.json"
    document.write_bytes((await served.get("/openapi.json")).content)
    settings = generate / "settings.yaml"
    settings.write_text("post_hooks: []\n")  # its formatter is not needed
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "openapi_python_client", "generate", "--path", str(document), "--meta", "none"),
        *("--config", str(settings)),
        *("--output-path", str(generate / "placar_client"), "--fail-on-warning"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()

    make: Any = importlib.import_module("placar_client")
    api_of: Any = importlib.import_module("placar_client.api.rankings")
    models: Any = importlib.import_module("placar_client.models")
    top_by_city, top_salesman, windows = (
        importlib.import_module(f"{api_of.__name__}.{name}") for name in ("top_by_city", "top_salesman", "windows")
    )
    async with make.Client(base_url=str(served.base_url)) as client:
        # a ranking, its instants and statuses as what they are
        ranking = await top_by_city.asyncio(client=client, window=START)
        assert isinstance(ranking, models.CityRanking)
        assert ranking.window.start == START
        assert ranking.status is models.CityRankingStatus.FINAL
        assert [rank.city for rank in ranking.rankings] == [COMPETITORS["city"], "Another"]
        newest = await top_by_city.asyncio(client=client, window=models.TopByCityWindowType0.LATEST_FINAL)
        assert newest == ranking

        # totals: this generator makes floats, which keep 15 digits; its models keep what the reader of the JSON gives
        assert Decimal(str(ranking.rankings[0].total_sales)) == FIFTEEN_DIGITS
        answer = await top_salesman.asyncio_detailed(client=client, window=START)
        assert answer.parsed.rankings[0].total_sales == float(HIGHEST)
        exact = models.SalesmanRanking.from_dict(json.loads(answer.content, parse_float=Decimal))
        assert exact.rankings[0].total_sales == HIGHEST

        # all windows, page by page
        starts, page = [], await windows.asyncio(client=client, limit=2)
        while True:
            assert isinstance(page, models.Windows)
            starts += [window.start for window in page.windows]
            if not page.next_cursor:
                break
            page = await windows.asyncio(client=client, limit=2, cursor=page.next_cursor)
        assert starts == [START + timedelta(hours=1), START, START - timedelta(hours=1)]

        # 304, and problems
        tag = answer.headers["etag"]
        assert (await top_salesman.asyncio_detailed(client=client, window=START, if_none_match=tag)).status_code == 304
        missing = await top_by_city.asyncio(client=client, window=START + timedelta(minutes=30))
        assert isinstance(missing, models.Problem)
        assert (missing.status, missing.instance) == (404, "/api/v1/sales/top-by-city")
        wrong = await top_by_city.asyncio(client=client, limit=11)
        assert [(error.field, error.value) for error in wrong.errors] == [("limit", "11")]
