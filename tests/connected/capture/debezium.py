"""A shop whose sales are captured: the table in Postgres, the connector, the unit cdc, and what they publish."""

import asyncio
import itertools
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import asyncpg
import httpx
import psutil
from aiokafka import AIOKafkaConsumer, TopicPartition

from contracts.catalogue import catalogue
from tests.connected.streams import Published, Servers, free_port, until

CONNECTOR = "sales-postgres"
SLOT = "debezium_sales"
DEADLINE_S = 120.0
SOLD_AT = datetime(2026, 2, 19, 10, 0)
INSERT = (
    "INSERT INTO sales (id, salesman_id, salesman, city, amount, product, sale_date)"
    " VALUES ($1, $2, 'Ana', 'Recife', $3, $4, $5)"
)

Sale = tuple[str, str, Decimal, str, datetime]


async def connected(servers: Mapping[str, str]) -> asyncpg.Connection:
    """A session in the shop's database."""
    return await asyncpg.connect(
        host=servers["POSTGRES_HOST"],
        port=int(servers["POSTGRES_PORT"]),
        database=servers["POSTGRES_DB"],
        user=servers["POSTGRES_USER"],
        password=servers["POSTGRES_PASSWORD"],
    )


def sale_id(key: bytes) -> str:
    """The id in a key of Debezium: a long of Avro behind magic byte and schema id."""
    number = 0
    for position, byte in enumerate(key[5:]):
        number |= (byte & 0x7F) << 7 * position
    return str((number >> 1) ^ -(number & 1))


@contextmanager
def captured(servers: Mapping[str, str], log: Path) -> Iterator[None]:
    """The connector is deployed, and the unit cdc runs."""
    environment = {**os.environ, **servers, "CDC_OPS_PORT": str(free_port())}
    deployed = subprocess.run(
        [sys.executable, "-m", "services.connect_watcher", "--once"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    with log.open("ab") as out:
        cdc = subprocess.Popen([sys.executable, "-m", "streams.cdc"], env=environment, stderr=out)
    try:
        yield
        assert cdc.poll() is None, f"cdc ended with {cdc.returncode}: {log.read_text('utf-8')[-2000:]}"
    finally:
        cdc.terminate()
        cdc.wait(30)


class Shop:
    """What a test does to the table and reads of the topics; `next_id` gives ids that no other test has."""

    def __init__(
        self,
        servers: Mapping[str, str],
        sql: asyncpg.Connection,
        connect: httpx.AsyncClient,
        published: Published,
        read: Callable[[], Awaitable[None]],
    ) -> None:
        self.servers, self.sql, self.connect, self.published = servers, sql, connect, published
        self._read = read
        self._ids = itertools.count(random.randrange(1, 1 << 40) << 16)
        self.seller = 0

    def next_ids(self, number: int) -> list[int]:
        """Ids of sales that nobody has used."""
        return list(itertools.islice(self._ids, number))

    async def sell(
        self, *ids: int, amount: Decimal = Decimal("10.50"), product: str = "SSD", sold_at: datetime = SOLD_AT
    ) -> None:
        """Insert plain sales."""
        await self.sql.executemany(INSERT, [(number, self.seller, amount, product, sold_at) for number in ids])

    async def rows(self, ids: list[int]) -> dict[str, Sale]:
        """What the table holds of these sales."""
        query = "SELECT *, date_trunc('milliseconds', sale_date) AS sold_at FROM sales WHERE id = ANY($1)"
        rows = await self.sql.fetch(query, ids)
        return {
            str(row["id"]): (row["salesman"], row["city"], row["amount"], row["product"], row["sold_at"])
            for row in rows
        }

    async def sales(self, ids: list[int]) -> dict[str, Sale]:
        """What has been published of them: the newest version of each, without the deleted."""
        await self._read()
        newest, wanted = self.published.sales(), set(map(str, ids))
        return {
            number: (
                event["salesman_name"],
                event["city"],
                event["amount"],
                event["product"],
                event["event_time"].astimezone(UTC).replace(tzinfo=None),
            )
            for number, event in newest.items()
            if number in wanted and event["source"] == "postgres" and not event["deleted"]
        }

    async def agree(self, ids: list[int], what: str) -> None:
        """Wait until what is published of these sales is what the table holds of them."""

        async def equal() -> bool:
            return await self.sales(ids) == await self.rows(ids)

        try:
            await until(equal, f"the published sales are those of the table: {what}", DEADLINE_S)
        except AssertionError as error:
            published, table = await self.sales(ids), await self.rows(ids)
            missing = [
                (number, table[number], published.get(number))
                for number in table
                if published.get(number) != table[number]
            ]
            surplus = [number for number in published if number not in table]
            raise AssertionError(f"{error}; (id, table, published): {missing[:3]}; gone: {surplus[:3]}") from None

    async def rejected(self, ids: list[int]) -> dict[str, str]:
        """Reason of the dead letter of each of these sales that has one."""
        await self._read()
        dead = self.published.dead_letters("cdc").values()
        reasons = {sale_id(each["key"]): each["reason"] for each in dead if each["key"] is not None}
        return {str(number): reasons[str(number)] for number in ids if str(number) in reasons}

    async def status(self) -> tuple[str, str]:
        """State of connector or task, and its trace: the first that does not run, else RUNNING."""
        try:
            answer = await self.connect.get("/status")
        except httpx.TransportError:
            return "UNAVAILABLE", ""
        if answer.status_code != 200:
            return "NONE", ""
        parts = [answer.json()["connector"], *answer.json()["tasks"]]
        for part in parts:
            if part["state"] != "RUNNING":
                return part["state"], part.get("trace", "")
        return ("RUNNING" if len(parts) == 2 else "STARTING"), ""

    async def in_state(self, state: str) -> None:
        """Wait until connector and task are in this state."""

        async def reached() -> bool:
            return (await self.status())[0] == state

        await until(reached, f"the connector is {state}", DEADLINE_S)

    async def stop_capture(self) -> None:
        """Stop the connector and wait until it has released its slot."""
        await self.connect.put("/stop")

        async def free() -> bool:
            tasks = (await self.connect.get("/status")).json()["tasks"]
            held = await self.sql.fetchval("SELECT active FROM pg_replication_slots WHERE slot_name = $1", SLOT)
            return not tasks and not held

        await until(free, "the connector releases its slot")

    async def watcher(self, *arguments: str) -> tuple[int, str]:
        """Run the watcher's command: its exit status and output."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.connect_watcher",
            *arguments,
            env={**os.environ, **self.servers},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode()

    async def resnapshot(self) -> str:
        """Have the whole table read again; returns the command's output."""
        status, output = await self.watcher("--resnapshot")
        assert status == 0, output
        return output

    @asynccontextmanager
    async def _raw(self) -> AsyncIterator[tuple[AIOKafkaConsumer, dict[TopicPartition, int]]]:
        """A reader of `sales.postgres` from its beginning, and the topic's ends."""
        client = AIOKafkaConsumer(
            bootstrap_servers=f"127.0.0.1:{self.servers['KAFKA_PORT']}", auto_offset_reset="earliest"
        )
        await client.start()
        try:
            partitions = [TopicPartition("sales.postgres", n) for n in range(catalogue()["sales.postgres"].partitions)]
            client.assign(partitions)
            yield client, await client.end_offsets(partitions)
        finally:
            await client.stop()

    async def schemas(self) -> list[int]:
        """The versions of the schema that Debezium has registered for the topic's values."""
        versions: list[int] = await Servers(self.servers).client.get_versions("sales.postgres-value")
        return versions

    async def raw_records(self) -> int:
        """How many records `sales.postgres` holds."""
        async with self._raw() as (_, ends):
            return sum(ends.values())

    async def tombstones(self, ids: list[int]) -> set[int]:
        """Those of the sales whose newest record in `sales.postgres` has no value."""
        newest: dict[str, bool] = {}
        async with self._raw() as (client, ends):
            while any([await client.position(each) < end for each, end in ends.items()]):
                for messages in (await client.getmany(timeout_ms=200)).values():
                    newest |= {sale_id(each.key): each.value is None for each in messages if each.key}
        return {number for number in ids if newest.get(str(number))}


def listener(port: str) -> psutil.Process:
    """The process that listens on a port of this machine."""
    pids = {c.laddr[1]: c.pid for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.laddr}
    pid = pids[int(port)]
    assert pid is not None
    return psutil.Process(pid)


@asynccontextmanager
async def shop(servers: Mapping[str, str]) -> AsyncIterator[Shop]:
    """A shop whose connector runs; what it publishes is read from now on."""
    base = f"http://127.0.0.1:{servers['CONNECT_PORT']}/connectors/{CONNECTOR}"
    sql = await connected(servers)
    try:
        async with (
            httpx.AsyncClient(base_url=base, timeout=20) as connect,
            Servers(servers).published() as (published, read),
        ):
            opened = Shop(servers, sql, connect, published, read)
            opened.seller = await sql.fetchval("INSERT INTO salesman (name, city) VALUES ('A', 'Recife') RETURNING id")
            await opened.in_state("RUNNING")
            yield opened
    finally:
        await sql.close()
