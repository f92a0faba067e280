"""The file poller against a real broker and a real object store."""

import asyncio
import gzip
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import md5
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from chassis import dead_letters, kafka, logs, progress
from chassis.metrics import Metrics
from chassis.ops import Readiness
from chassis.registry import Registry
from chassis.s3 import Bucket, UnreachableError
from chassis.s3_protocol import Object
from chassis.settings import KafkaSettings, RegistrySettings
from chassis.unit import Unit
from contracts.time import to_ms
from services.file_poller.metrics import SKIPPED
from services.file_poller.poll import TOPIC, UNREADABLE_ROUNDS, Poller
from services.file_poller.settings import FilePollerSettings
from services.file_poller.splitter import KEPT_BYTES
from services.file_poller.transform import Reading, reading
from tests.connected.sources import Reader, bucket, peak_bytes, put, reader, service, store_settings
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
    async with reader(servers, "sales.files") as sales, reader(servers, "sales.dlq") as dead:
        yield sales, dead


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
    "lines_end_in_carriage_returns": (
        (HEADER + row(1)).replace(b"\n", b"\r"),
        [],
        [("file_header", (HEADER + row(1)).replace(b"\n", b"\r"))],
    ),
    "nul_bytes": (HEADER + row(1) + b"\0" * 50 + b"\n" + row("a\0b"), ["1", "a\0b"], [("row_ragged", b"\0" * 50)]),
    "huge_field": (HEADER + b'1,"' + b"x" * 990_000 + b'",c,BR,1,p,d\n', ["1"], []),
    "cut_in_a_character": (HEADER + row(1) + b"2,Jos\xc3", ["1"], [("file_encoding", b"2,Jos\xc3")]),
    "quotes_within_quotes": (
        HEADER + b'1,a,c,BR,1,"TV 32" LED",d\n' + row(2),
        ["2"],
        [("row_ragged", b'1,a,c,BR,1,"TV 32" LED",d')],
    ),
    "header_of_quotes": (b'"sale_id"x,\n' + row(1), [], [("file_header", b'"sale_id"x,\n' + row(1))]),
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
        topics(servers) as (sales, dead),
        service("file_poller", environment(servers, prefix), tmp_path / "log") as process,
    ):
        start = f"sales-data/{prefix}/".encode()
        expected = {name: (sorted(ids), sorted(lost)) for name, (_, ids, lost) in MALFORMED.items()}

        async def outcomes() -> dict[str, tuple[list[str], list[tuple[str, bytes]]]]:
            result: dict[str, tuple[list[str], list[tuple[str, bytes]]]] = {name: ([], []) for name in MALFORMED}
            for _, value in await sales.of(start):
                result[value["object_key"].rsplit("/", 1)[1].removesuffix(".csv")][0].append(value["sale_id"])
            for _, value in await dead.read():
                if value["unit"] == "file_poller" and value["key"].startswith(start):
                    name = value["key"].removeprefix(start).split(b".csv")[0].decode()
                    result[name][1].append((value["reason"], value["value"]))
            return {name: (sorted(ids), sorted(lost)) for name, (ids, lost) in result.items()}

        async def complete() -> bool:
            series = await process.samples()
            files = sum(value for name, value in series.items() if name.startswith("placar_files_total"))
            return files == len(MALFORMED)

        await until(complete, "every file is read or rejected")
        assert await outcomes() == expected
        details = {value["detail"] for _, value in dead.records if value["reason"] == "file_header"}
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


class Hooked(Bucket):
    """A bucket that calls `before` ahead of each request for an object, and whose clock says `modified`."""

    before: Callable[[str], None]
    modified: Callable[[int], int]

    async def pages(self, prefix: str = "", size: int = 1000) -> AsyncIterator[list[Object]]:
        """The bucket's, with its clock."""
        async for page in super().pages(prefix, size):
            yield [replace(each, last_modified=self.modified(each.last_modified)) for each in page]

    async def read(self, key: str, start: int, end: int, etag: str) -> bytes:
        """The bucket's, after `before`."""
        self.before(key)
        return await super().read(key, start, end, etag)


@asynccontextmanager
async def poller(
    servers: Mapping[str, str],
    prefix: str,
    before: Callable[[str], None] = lambda _: None,
    known: dict[str, Reading] | None = None,
    modified: Callable[[int], int] = lambda listed: listed,
    **more: Any,
) -> AsyncIterator[Poller]:
    """A poller in this process whose rounds the test runs; `known` is what was read before."""
    unit = Unit("file_poller", logs.configure("file_poller", "error"), Metrics("file_poller"), Readiness())
    settings = FilePollerSettings(
        ops_port=free_port(),
        prefix=prefix,
        kafka=KafkaSettings(host=servers["KAFKA_HOST"], port=int(servers["KAFKA_PORT"])),
        registry=RegistrySettings(host=servers["SCHEMA_REGISTRY_HOST"], port=int(servers["SCHEMA_REGISTRY_PORT"])),
        s3=store_settings(servers),
        **more,
    )
    registry = Registry(unit, settings.registry)
    encoders = {topic: await registry.encoder(topic) for topic in (TOPIC, dead_letters.TOPIC, progress.TOPIC)}
    async with aiohttp.ClientSession(auto_decompress=False) as session, kafka.producer(unit, settings.kafka) as client:
        hooked = Hooked(settings.s3, session)
        hooked.before, hooked.modified = before, modified
        yield Poller(unit, settings, bucket=hooked, client=client, encoders=encoders, known=known or {})


async def test_an_unreadable_object_stops_nothing(servers: Mapping[str, str]) -> None:
    """What cannot be read is tried each round, is one dead letter once it keeps failing, and the others are read."""
    prefix, store = unique("unreadable"), bucket(servers)
    for name in "abc":
        store.put(f"{prefix}/{name}.csv", HEADER + row(name))

    def before(key: str) -> None:
        if key.endswith("/b.csv"):
            raise UnreachableError("the disk under it is broken")

    async with topics(servers) as (sales, dead), poller(servers, prefix, before) as polling:
        for _ in range(UNREADABLE_ROUNDS + 2):
            await polling.round()
        assert [v["sale_id"] for _, v in sorted(await sales.of(f"sales-data/{prefix}/".encode()))] == ["a", "c"]
        rejected = [v for _, v in await dead.read() if v["key"] == f"sales-data/{prefix}/b.csv".encode()]
        assert [(v["reason"], v["value"]) for v in rejected] == [("file_unreadable", None)]


@pytest.mark.parametrize("then", ["replaced", "deleted"])
async def test_an_object_that_changes_while_it_is_read(servers: Mapping[str, str], then: str) -> None:
    """A file replaced in the middle is re-read under a higher version; a deleted one ends there; others are read."""
    prefix, store = unique(then), bucket(servers)
    key, rows = f"{prefix}/a.csv", 2_000
    store.put(key, HEADER + b"".join(row(n) for n in range(rows)))
    store.put(f"{prefix}/other.csv", HEADER + row("other"))
    requests = 0

    def before(requested: str) -> None:
        nonlocal requests
        if requested != key:
            return
        requests += 1
        if requests == 2 and then == "replaced":
            store.put(key, HEADER + row("new"))
        elif requests == 2:
            store.delete(key)

    async with (
        topics(servers) as (sales, dead),
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
        assert not [v for _, v in await dead.read() if (v["key"] or b"").startswith(f"sales-data/{prefix}".encode())]


async def test_an_unreachable_store_is_named(servers: Mapping[str, str], tmp_path: Path) -> None:
    """While the store does not answer the poller is not ready and says which address and setting."""
    port = free_port()
    env = environment({**servers, "S3_PORT": str(port), "S3_ENDPOINT": f"http://127.0.0.1:{port}"}, "none")
    async with service("file_poller", env, tmp_path / "log", wait=False) as process:

        async def named() -> bool:
            why = (await process.missing() or {}).get("s3", "")
            return f"127.0.0.1:{port}" in why and "S3_ENDPOINT" in why

        await until(named, "the store's address and setting are named")


async def positions(servers: Mapping[str, str]) -> dict[str, Reading]:
    """What a new process knows to have been read, by key."""
    unit = Unit("file_poller", logs.configure("file_poller", "error"), Metrics("file_poller"), Readiness())
    registry = Registry(
        unit, RegistrySettings(host=servers["SCHEMA_REGISTRY_HOST"], port=int(servers["SCHEMA_REGISTRY_PORT"]))
    )
    async with asyncio.timeout(30):
        read = await progress.read(
            unit, KafkaSettings(host=servers["KAFKA_HOST"], port=int(servers["KAFKA_PORT"])), registry
        )
    known = {cursor.removeprefix("sales-data/"): reading(position) for cursor, position in read.items()}
    return {key: each for key, each in known.items() if each is not None}


async def test_what_was_read_is_known_after_a_restart(servers: Mapping[str, str]) -> None:
    """The positions that the poller wrote are what a new process reads from the topic."""
    prefix = unique("positions")
    bucket(servers).put(f"{prefix}/a.csv", HEADER + row(1))
    async with poller(servers, prefix) as polling:
        await polling.round()
    known = (await positions(servers))[f"{prefix}/a.csv"]
    assert (known.rows, known.done) == (1, True)


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

    async with topics(servers) as (sales, dead):
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
            read = sorted({(value["row_number"], value["sale_id"]) for value in values})
            assert read == [(n, str(n)) for n in range(1, rows + 1)], f"crashed at moment {moment}"
            assert len({value["object_version"] for value in values}) == 1
            assert len(values) <= rows + batch
        assert moment > 2 * rows / batch, "too few moments to prove anything"
        assert not [value for _, value in await dead.read() if prefix.encode() in (value["key"] or b"")]


# keys that a file system, a path or XML cannot hold; of the last the store's listing loses a character
KEYS = [
    "tab\there.csv",
    "two//slashes.csv",
    "line\nbreak.csv",
    "a+b c%20&<>\"'é😀.csv",
    "~*(#?=).csv",
    "control\x01.csv",
]


async def test_no_name_stops_the_others(servers: Mapping[str, str]) -> None:
    """Whatever an object is called, it is read or is one dead letter, and all others are read."""
    prefix = unique("names")
    for key in (*KEYS, "plain.csv"):
        assert await put(servers, f"{prefix}/{key}", HEADER + row(key.split(".csv")[0].encode().hex()))
    async with topics(servers) as (sales, dead), poller(servers, prefix, page_keys=3) as polling:
        for _ in range(UNREADABLE_ROUNDS):
            await polling.round()
        start = f"sales-data/{prefix}/".encode()
        read = [bytes.fromhex(v["sale_id"]).decode() + ".csv" for _, v in await sales.of(start)]
        assert sorted(read) == sorted([*KEYS[:-1], "plain.csv"])
        rejected = [v for _, v in await dead.read() if (v["key"] or b"").startswith(start)]
        assert [(v["reason"], "control" in v["detail"]) for v in rejected] == [("file_unreadable", True)]


async def test_packed_files(servers: Mapping[str, str]) -> None:
    """A .csv.gz is read like a .csv, also from where a crash left it; one that is cut off is a dead letter."""
    prefix, store = unique("packed"), bucket(servers)
    ids = [md5(str(n).encode(), usedforsecurity=False).hexdigest() for n in range(300)]
    whole = gzip.compress(HEADER + b"".join(map(row, ids)))
    assert len(whole) > 4 * 1024
    store.put(f"{prefix}/a.csv.gz", whole)
    store.put(f"{prefix}/b.csv.gz", gzip.compress(HEADER + b"".join(map(row, ids)))[:-30])
    store.put(f"{prefix}/c.csv.gz", HEADER + row("not packed"))
    store.put(f"{prefix}/d.csv.zst", b"x")
    start = f"sales-data/{prefix}/".encode()
    async with topics(servers) as (sales, dead):
        async with poller(servers, prefix, batch_rows=7, chunk_bytes=1024) as polling:
            await polling.round()
            assert polling._unit.metrics[SKIPPED].get({}) == 1
        first = [v for _, v in await sales.of(start + b"a")]
        assert sorted(v["sale_id"] for v in first) == sorted(ids)
        assert [v["sale_id"] for _, v in await sales.of(start + b"c")] == ["not packed"]
        rejected = [v for _, v in await dead.read() if (v["key"] or b"").startswith(start)]
        assert [(v["reason"], v["key"].removeprefix(start)) for v in rejected] == [("file_unreadable", b"b.csv.gz")]
        half = replace((await positions(servers))[f"{prefix}/a.csv.gz"], done=False)
        assert half.offset == len(gzip.decompress(whole))
        half = replace(half, offset=half.offset - len(row(ids[-1])), rows=299)
        async with poller(servers, f"{prefix}/a", known={f"{prefix}/a.csv.gz": half}, chunk_bytes=1024) as polling:
            await polling.round()
        again = [v for _, v in await sales.of(start + b"a")][300:]
        assert [(v["sale_id"], v["row_number"]) for v in again] == [(ids[-1], 300)]


async def test_the_same_bytes_again_change_nothing(servers: Mapping[str, str]) -> None:
    """An older file that is uploaded again unchanged does not revert a correction in a newer one."""
    prefix, store = unique("again"), bucket(servers)
    clock = to_ms(datetime(2026, 1, 1, tzinfo=UTC))
    async with topics(servers) as (sales, _), poller(servers, prefix, modified=lambda _: clock) as polling:
        for name, amount in (("old", "10.50"), ("corrected", "99.00"), ("old", "10.50")):
            store.put(f"{prefix}/{name}.csv", HEADER + row("s", amount))
            await polling.round()
            clock += 86_400_000
        values = [v for _, v in await sales.of(f"sales-data/{prefix}/".encode())]
        assert sorted(v["amount"] for v in values) == ["10.50", "99.00"]
        assert max(values, key=lambda v: v["object_version"])["amount"] == "99.00"


@pytest.mark.parametrize("whole", [False, True])
async def test_rows_that_an_upload_no_longer_has(servers: Mapping[str, str], whole: bool) -> None:
    """Rows that a later upload lacks stay; where whole files are asked for, their sales are deleted, once."""
    prefix, store = unique("whole"), bucket(servers)
    start = f"sales-data/{prefix}/".encode()
    uploads = [HEADER + row(1) + row(2) + row(3), b"broken", HEADER + row(2) + b"4,x\n", HEADER + row(2), HEADER]
    deleted: list[list[str]] = []
    async with topics(servers) as (sales, _):
        before: set[str] = set()
        for content in uploads:
            store.put(f"{prefix}/a.csv", content)
            known = await positions(servers)
            async with poller(servers, prefix, known=known, whole_files=whole, batch_rows=2) as polling:
                await polling.round()
                await polling.round()
            values = [v for _, v in await sales.of(start) if v["deleted"] and v["sale_id"] not in before]
            deleted.append(sorted(v["sale_id"] for v in values))
            before |= {v["sale_id"] for v in values}
        assert deleted == ([[], [], ["1", "3"], [], ["2"]] if whole else [[]] * 5)
        newest: dict[str, tuple[int, int, bool]] = {}
        for _, v in await sales.of(start):
            this = (v["object_version"], v["row_number"], v["deleted"])
            newest[v["sale_id"]] = max(newest.get(v["sale_id"], this), this)
        assert all(gone is whole for _, _, gone in newest.values())


async def test_the_clock_of_the_store_does_not_matter(servers: Mapping[str, str]) -> None:
    """Uploads that seem to be of another century, or older than the one before, are read, and the later one wins."""
    prefix, store = unique("clock"), bucket(servers)
    ahead, behind = (to_ms(datetime(year, 1, 1, tzinfo=UTC)) for year in (2100, 1971))
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
    async with topics(servers) as (sales, dead), poller(servers, prefix) as polling:
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
        rejected = [v for _, v in await dead.read() if (v["key"] or b"").startswith(start)]
        assert [v["reason"] for v in rejected] == ["row_ragged"]
