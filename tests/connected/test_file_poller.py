"""The file poller against a real broker and a real object store."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from obstore.exceptions import GenericError
from obstore.store import S3Store

from chassis import dead_letters, kafka, logs, progress
from chassis.metrics import Metrics
from chassis.ops import Readiness
from chassis.registry import Registry
from chassis.settings import KafkaSettings, RegistrySettings, S3Settings
from chassis.unit import Unit
from services.file_poller.poll import TOPIC, UNREADABLE_ROUNDS, Encoders, Poller
from services.file_poller.settings import FilePollerSettings
from services.file_poller.splitter import KEPT_BYTES
from services.file_poller.transform import Reading, reading
from tests.connected.sources import Reader, bucket, peak_bytes, reader, service
from tests.connected.streams import free_port, unique, until

HEADER = b"sale_id,salesman_name,city,country,amount,product,sale_date\n"
BOM = b"\xef\xbb\xbf"


def row(sale_id: object, amount: str = "10.50") -> bytes:
    """One CSV row."""
    return f"{sale_id},José Lima,São Paulo,BR,{amount},SSD,2026-02-19T10:00:00Z\n".encode()


def environment(servers: Mapping[str, str], prefix: str, **more: object) -> dict[str, str]:
    """The environment of a poller that sees only keys under `prefix`."""
    own = {"INTERVAL_S": 0.3, "PREFIX": prefix, **more}
    return {**servers, **{f"FILE_POLLER_{name.upper()}": str(value) for name, value in own.items()}}


@asynccontextmanager
async def topics(servers: Mapping[str, str]) -> AsyncIterator[tuple[Reader, Reader]]:
    """What is published from now on: rows and dead letters."""
    async with reader(servers, "sales.files") as sales, reader(servers, "sales.dlq") as letters:
        yield sales, letters


# name: (the file, the sale ids that count, reason and original bytes of each dead letter)
MALFORMED: dict[str, tuple[bytes, list[str], list[tuple[str, bytes]]]] = {
    "good": (HEADER + row(1) + row(2), ["1", "2"], []),
    "no_newline_at_the_end": (HEADER + row(1).rstrip(), ["1"], []),
    "carriage_returns": ((HEADER + row(1)).replace(b"\n", b"\r\n"), ["1"], []),
    "quoted": (HEADER + b'"a""1","Lima, Jos\xc3\xa9","S\xc3\xa3o\nPaulo",BR,1,SSD,x\n' + row(2), ['a"1', "2"], []),
    "amount_abc": (HEADER + row(1, "abc"), ["1"], []),
    "header_only": (HEADER, [], []),
    "empty": (b"", [], [("file_empty", b"")]),
    "blank": (b"\n\n", [], [("file_header", b"\n\n")]),
    "bom": (BOM + HEADER + row(1), [], [("file_bom", BOM + HEADER + row(1))]),
    "wrong_header": (b"id,amount\n1,2\n", [], [("file_header", b"id,amount\n1,2\n")]),
    "semicolons": ((HEADER + row(1)).replace(b",", b";"), [], [("file_header", (HEADER + row(1)).replace(b",", b";"))]),
    "utf_16": (
        HEADER.decode().encode("utf-16"),
        [],
        [("file_encoding", HEADER.decode().encode("utf-16"))],
    ),
    "ragged": (
        HEADER + row(1) + b"2,short\n" + row(3) + b"4" + b",x" * 7 + b"\n",
        ["1", "3"],
        [("row_ragged", b"2,short"), ("row_ragged", b"4" + b",x" * 7)],
    ),
    "latin_1_row": (
        HEADER + row(1) + b"2,Jos\xe9,c,BR,1,p,d\n" + row(3),
        ["1", "3"],
        [("file_encoding", b"2,Jos\xe9,c,BR,1,p,d")],
    ),
    "unclosed_quote": (
        HEADER + row(1) + b'2,"x,c,BR,1,p,d\n' + row(3),
        ["1", "3"],
        [("row_ragged", b'2,"x,c,BR,1,p,d')],
    ),
    "long_row": (
        HEADER + row(1) + b"2," + b"x" * 1_100_000 + b"\n" + row(3),
        ["1", "3"],
        [("row_too_long", (b"2," + b"x" * KEPT_BYTES)[:KEPT_BYTES])],
    ),
    "long_rejected_file": (
        b"id\n" + b"y" * 100_000,
        [],
        [("file_header", (b"id\n" + b"y" * 100_000)[:KEPT_BYTES])],
    ),
}


async def test_malformed_files(servers: Mapping[str, str], tmp_path: Path) -> None:
    """Each malformed file or row is one dead letter with its reason and original bytes, and every other row counts."""
    prefix, store = unique("malformed"), bucket(servers)
    for name, (content, _, _) in MALFORMED.items():
        store.put(f"{prefix}/{name}.csv", content)
    async with (
        topics(servers) as (sales, letters),
        service("file_poller", environment(servers, prefix), tmp_path / "log") as process,
    ):
        start = f"sales-data/{prefix}/".encode()
        expected = {name: (sorted(ids), sorted(dead)) for name, (_, ids, dead) in MALFORMED.items()}

        async def found() -> dict[str, tuple[list[str], list[tuple[str, bytes]]]]:
            result: dict[str, tuple[list[str], list[tuple[str, bytes]]]] = {name: ([], []) for name in MALFORMED}
            for _, value in await sales.of(start):
                result[value["object_key"].rsplit("/", 1)[1].removesuffix(".csv")][0].append(value["sale_id"])
            for _, value in await letters.read():
                if value["unit"] == "file_poller" and value["key"].startswith(start):
                    name = value["key"].removeprefix(start).split(b".csv")[0].decode()
                    result[name][1].append((value["reason"], value["value"]))
            return {name: (sorted(ids), sorted(dead)) for name, (ids, dead) in result.items()}

        async def complete() -> bool:
            series = await process.samples()
            files = sum(value for name, value in series.items() if name.startswith("placar_files_total"))
            return files == len(MALFORMED)

        await until(complete, "every file is read or rejected")
        assert await found() == expected
        details = {value["detail"] for _, value in letters.records if value["reason"] == "file_header"}
        assert any("separator is ';'" in detail and "sale_id;salesman_name" in detail for detail in details)
        series = {
            name.split("outcome=")[1]: v for name, v in (await process.samples()).items() if "records_total{" in name
        }
        assert sum(v for name, v in series.items() if "received" not in name) == sum(
            v for name, v in series.items() if "received" in name
        )


async def test_a_corrected_upload_wins_and_a_vanished_file_changes_nothing(
    servers: Mapping[str, str], tmp_path: Path
) -> None:
    """An upload under a known key is read again under a higher version; a restart or a deletion publishes nothing."""
    prefix, store = unique("corrected"), bucket(servers)
    key, start = f"{prefix}/a.csv", f"sales-data/{prefix}/".encode()
    env = environment(servers, prefix)
    async with topics(servers) as (sales, _):

        async def read(number: int) -> bool:
            return len(await sales.of(start)) >= number

        async with service("file_poller", env, tmp_path / "log"):
            store.put(f"{prefix}/kept.csv", HEADER + row("kept"))
            store.put(key, HEADER + row(1) + row(2))
            await until(lambda: read(3), "the first upload is read")
            store.put(key, HEADER + row(1, "99.00"))  # within the same second, as likely as not
            await until(lambda: read(4), "the second upload is read")
        store.delete(key)
        async with service("file_poller", env, tmp_path / "log"):
            store.put(f"{prefix}/b.csv", HEADER + row(3))

            async def new_read() -> bool:
                return "3" in [v["sale_id"] for _, v in await sales.of(start)]

            await until(new_read, "a new file, younger than what was read before, is read after the restart")
        values = [value for _, value in await sales.of(start)]
        assert Counter((v["sale_id"], v["amount"]) for v in values) == Counter(
            [("kept", "10.50"), ("1", "10.50"), ("2", "10.50"), ("1", "99.00"), ("3", "10.50")]
        )
        corrected = next(v for v in values if v["amount"] == "99.00")
        assert corrected["object_version"] > next(v for v in values if v["sale_id"] == "2")["object_version"]


async def test_killed_in_the_middle_of_a_file(servers: Mapping[str, str], tmp_path: Path) -> None:
    """Killed twice while reading a file: every row is published under one version, and at most a batch each repeats."""
    prefix, rows, batch = unique("killed"), 30_000, 200
    bucket(servers).put(f"{prefix}/a.csv", HEADER + b"".join(map(row, range(1, rows + 1))))
    start = f"sales-data/{prefix}/".encode()
    env = environment(servers, prefix, batch_rows=batch, chunk_bytes=65536)
    async with topics(servers) as (sales, _):
        for kill_at in (rows // 5, rows // 2):
            async with service("file_poller", env, tmp_path / "log", wait=False) as process:

                async def reached(wanted: int = kill_at) -> bool:
                    return await sales.waiting() + len(sales.records) >= wanted

                await until(reached, f"{kill_at} rows are read")
                await process.end(signal.SIGKILL)
        assert len(await sales.of(start)) < rows, "killed too late to prove anything"
        async with service("file_poller", env, tmp_path / "log"):

            async def complete() -> bool:
                return any(value["row_number"] == rows for _, value in await sales.of(start))

            await until(complete, "the file is read to its end")
        values = [value for _, value in await sales.of(start)]
        assert {(v["row_number"], v["sale_id"]) for v in values} == {(n, str(n)) for n in range(1, rows + 1)}
        assert len({v["object_version"] for v in values}) == 1
        assert len(values) <= rows + 2 * batch


async def test_a_big_file_in_little_memory(servers: Mapping[str, str], tmp_path: Path) -> None:
    """A file of 64 MiB is read to its end in at most 200 MiB of memory; `task bench:files` does the same with 1 GiB."""
    prefix, rows = unique("big"), 17_000
    line = row(1).replace(b"SSD", b"x" * 4100)
    assert rows * len(line) > 64 * 1024 * 1024
    bucket(servers).put(f"{prefix}/a.csv", HEADER + line * rows)
    async with service("file_poller", environment(servers, prefix), tmp_path / "log") as process:

        async def complete() -> bool:
            files = [name for name in await process.samples() if name.startswith("placar_files_total{")]
            return any('outcome="read"' in name for name in files)

        await until(complete, "the file is read to its end")
        published = [v for name, v in (await process.samples()).items() if 'outcome="published"' in name]
        assert published == [rows]
        assert peak_bytes(process) <= 200 * 1024 * 1024


async def test_many_objects_list_in_pages(servers: Mapping[str, str], tmp_path: Path) -> None:
    """1,200 objects in pages of 500 are all read, each once."""
    prefix, store = unique("pages"), bucket(servers)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: store.put(f"{prefix}/{n}.csv", HEADER + row(n)), range(1200)))
    async with (
        topics(servers) as (sales, _),
        service("file_poller", environment(servers, prefix, page_keys=500), tmp_path / "log"),
    ):
        start = f"sales-data/{prefix}/".encode()

        async def complete() -> bool:
            return len(await sales.of(start)) >= 1200

        await until(complete, "every object is read", deadline_s=100)
        assert Counter(value["sale_id"] for _, value in await sales.of(start)) == Counter(map(str, range(1200)))


class Hooked:
    """A store that calls `before` ahead of each request for an object, and whose clock says `modified`."""

    def __init__(self, store: S3Store, before: Callable[[str], None], modified: Callable[[datetime], datetime]) -> None:
        self._store, self._before, self._modified = store, before, modified

    def list(self, *given: Any, **named: Any) -> Any:
        """The store's, with its clock."""
        for page in self._store.list(*given, **named):
            yield [{**meta, "last_modified": self._modified(meta["last_modified"])} for meta in page]

    def get(self, key: str, **named: Any) -> Any:
        """The store's, after `before`."""
        self._before(key)
        return self._store.get(key, **named)


@asynccontextmanager
async def poller(
    servers: Mapping[str, str],
    prefix: str,
    before: Callable[[str], None] = lambda _: None,
    known: dict[str, Reading] | None = None,
    modified: Callable[[datetime], datetime] = lambda seen: seen,
    **more: Any,
) -> AsyncIterator[Poller]:
    """A poller in this process whose rounds the test runs; `known` is what was read before."""
    unit = Unit("file_poller", logs.configure("file_poller", "error"), Metrics("file_poller"), Readiness())
    store = bucket(servers)
    settings = FilePollerSettings(
        ops_port=free_port(),
        prefix=prefix,
        kafka=KafkaSettings(host=servers["KAFKA_HOST"], port=int(servers["KAFKA_PORT"])),
        registry=RegistrySettings(host=servers["SCHEMA_REGISTRY_HOST"], port=int(servers["SCHEMA_REGISTRY_PORT"])),
        s3=S3Settings(bucket=servers["S3_BUCKET"]),
        **more,
    )
    registry = Registry(unit, settings.registry)
    encoders = Encoders(*[await registry.encoder(topic) for topic in (TOPIC, dead_letters.TOPIC, progress.TOPIC)])
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(kafka.producer(unit, settings.kafka))
        hooked: Any = Hooked(store, before, modified)
        yield Poller(unit, settings, store=hooked, client=client, encoders=encoders, known=known or {})


async def test_an_unreadable_object_stops_nothing(servers: Mapping[str, str]) -> None:
    """What cannot be read is tried each round, is one dead letter once it keeps failing, and the others are read."""
    prefix, store = unique("unreadable"), bucket(servers)
    for name in "abc":
        store.put(f"{prefix}/{name}.csv", HEADER + row(name))

    def before(key: str) -> None:
        if key.endswith("/b.csv"):
            raise GenericError("the disk under it is broken")

    async with topics(servers) as (sales, letters), poller(servers, prefix, before) as polling:
        for _ in range(UNREADABLE_ROUNDS + 2):
            await polling.round()
        assert [v["sale_id"] for _, v in sorted(await sales.of(f"sales-data/{prefix}/".encode()))] == ["a", "c"]
        said = [v for _, v in await letters.read() if v["key"] == f"sales-data/{prefix}/b.csv".encode()]
        assert [(v["reason"], v["value"]) for v in said] == [("file_unreadable", None)]


@pytest.mark.parametrize("then", ["replaced", "deleted"])
async def test_an_object_that_changes_while_it_is_read(servers: Mapping[str, str], then: str) -> None:
    """A file replaced in the middle is re-read under a higher version; a deleted one ends there; others are read."""
    prefix, store = unique(then), bucket(servers)
    key, rows = f"{prefix}/a.csv", 2_000
    store.put(key, HEADER + b"".join(row(n) for n in range(rows)))
    store.put(f"{prefix}/other.csv", HEADER + row("other"))
    requests = 0

    def before(asked: str) -> None:
        nonlocal requests
        if asked != key:
            return
        requests += 1
        if requests == 2 and then == "replaced":
            store.put(key, HEADER + row("new"))
        elif requests == 2:
            store.delete(key)

    async with (
        topics(servers) as (sales, letters),
        poller(servers, prefix, before, batch_rows=10, chunk_bytes=4096) as polling,
    ):
        await polling.round()
        await polling.round()
        values = [value for _, value in await sales.of(f"sales-data/{prefix}/".encode())]
        old = [v for v in values if v["sale_id"] not in ("new", "other")]
        new = [v for v in values if v["sale_id"] == "new"]
        assert [v["sale_id"] for v in values].count("other") == 1
        assert 0 < len(old) < rows
        assert len(new) == (1 if then == "replaced" else 0)
        assert all(v["object_version"] > old[0]["object_version"] for v in new)
        assert not [v for _, v in await letters.read() if (v["key"] or b"").startswith(f"sales-data/{prefix}".encode())]


async def test_an_unreachable_store_is_named(servers: Mapping[str, str], tmp_path: Path) -> None:
    """While the store does not answer the poller is not ready and says which address and setting."""
    port = free_port()
    env = environment({**servers, "S3_PORT": str(port), "S3_ENDPOINT": f"http://127.0.0.1:{port}"}, "none")
    async with service("file_poller", env, tmp_path / "log", wait=False) as process:

        async def named() -> bool:
            said = (await process.missing() or {}).get("s3", "")
            return f"127.0.0.1:{port}" in said and "S3_ENDPOINT" in said

        await until(named, "the store's address and setting are named")


async def positions(servers: Mapping[str, str]) -> dict[str, Reading]:
    """What a new process finds to have been read, by key."""
    unit = Unit("file_poller", logs.configure("file_poller", "error"), Metrics("file_poller"), Readiness())
    registry = Registry(
        unit, RegistrySettings(host=servers["SCHEMA_REGISTRY_HOST"], port=int(servers["SCHEMA_REGISTRY_PORT"]))
    )
    async with asyncio.timeout(30):
        read = await progress.read(
            unit, KafkaSettings(host=servers["KAFKA_HOST"], port=int(servers["KAFKA_PORT"])), registry
        )
    found = {cursor.removeprefix("sales-data/"): reading(position) for cursor, position in read.items()}
    return {key: each for key, each in found.items() if each is not None}


async def test_what_was_read_is_known_after_a_restart(servers: Mapping[str, str]) -> None:
    """The positions that the poller wrote are what a new process reads from the topic."""
    prefix = unique("positions")
    bucket(servers).put(f"{prefix}/a.csv", HEADER + row(1))
    async with poller(servers, prefix) as polling:
        await polling.round()
    found = (await positions(servers))[f"{prefix}/a.csv"]
    assert (found.rows, found.done) == (1, True)


class CrashError(Exception):
    """The process ends here."""


async def test_a_crash_at_any_moment(servers: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ended before or after any of its publications, the poller goes on so that each row counts once."""
    publish, rows, batch = kafka.publish, 5, 2
    left = 0

    async def crashing(client: Any, records: Any) -> int:
        nonlocal left
        left -= 1
        if left == 0:
            raise CrashError
        number = await publish(client, records)
        left -= 1
        if left == 0:
            raise CrashError
        return number

    async with topics(servers) as (sales, letters):
        moment, crashed, prefix = 0, True, unique("crash")
        while crashed:
            moment += 1
            left, folder = moment, f"{prefix}-{moment}"
            key, start = f"{folder}/a.csv", f"sales-data/{folder}/".encode()
            bucket(servers).put(key, HEADER + b"".join(map(row, range(1, rows + 1))))
            with monkeypatch.context() as patched:
                patched.setattr(kafka, "publish", crashing)
                async with poller(servers, folder, batch_rows=batch) as polling:
                    try:
                        await polling.round()
                        crashed = False
                    except CrashError:
                        crashed = True
            async with poller(servers, folder, known=await positions(servers), batch_rows=batch) as polling:
                await polling.round()
            values = [value for _, value in await sales.of(start)]
            found = sorted({(value["row_number"], value["sale_id"]) for value in values})
            assert found == [(n, str(n)) for n in range(1, rows + 1)], f"crashed at moment {moment}"
            assert len({value["object_version"] for value in values}) == 1
            assert len(values) <= rows + batch
        assert moment > 2 * rows / batch, "too few moments to prove anything"
        assert not [value for _, value in await letters.read() if prefix.encode() in (value["key"] or b"")]


async def test_the_clock_of_the_store_does_not_matter(servers: Mapping[str, str]) -> None:
    """Uploads that seem to be of another century, or older than the one before, are read, and the later one wins."""
    prefix, store = unique("clock"), bucket(servers)
    ahead, behind = datetime(2100, 1, 1, tzinfo=UTC), datetime(1971, 1, 1, tzinfo=UTC)
    clock = ahead
    async with topics(servers) as (sales, _), poller(servers, prefix, modified=lambda _: clock) as polling:
        store.put(f"{prefix}/a.csv", HEADER + row("a"))
        await polling.round()
        clock = behind
        store.put(f"{prefix}/a.csv", HEADER + row("a", "99.00"))
        store.put(f"{prefix}/b.csv", HEADER + row("b"))
        await polling.round()
        await polling.round()
        values = [value for _, value in await sales.of(f"sales-data/{prefix}/".encode())]
        assert sorted((v["sale_id"], v["amount"]) for v in values) == [("a", "10.50"), ("a", "99.00"), ("b", "10.50")]
        versions = {v["amount"]: v["object_version"] for v in values if v["sale_id"] == "a"}
        assert versions["99.00"] > versions["10.50"]


async def test_a_file_that_is_still_being_written(servers: Mapping[str, str]) -> None:
    """A file that ends in the middle of a row makes one dead letter; the whole file, once it is there, wins."""
    prefix, store = unique("writing"), bucket(servers)
    whole = HEADER + row(1) + row(2) + row(3)
    async with topics(servers) as (sales, letters), poller(servers, prefix) as polling:
        store.put(f"{prefix}/a.csv", whole[: whole.index(b"\n3,") + 5])
        store.put(f"{prefix}/b.csv", HEADER + row("other"))
        await polling.round()
        store.put(f"{prefix}/a.csv", whole)
        await polling.round()
        start = f"sales-data/{prefix}/".encode()
        values = [value for _, value in await sales.of(start)]
        assert Counter(v["sale_id"] for v in values) == Counter({"1": 2, "2": 2, "3": 1, "other": 1})
        newest = max(v["object_version"] for v in values)
        assert sorted(v["sale_id"] for v in values if v["object_version"] == newest and v["sale_id"] != "other") == [
            "1",
            "2",
            "3",
        ]
        dead = [v for _, v in await letters.read() if (v["key"] or b"").startswith(start)]
        assert [v["reason"] for v in dead] == ["row_ragged"]
