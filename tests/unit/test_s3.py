"""The bucket's client against a store that answers as S3 does: what it asks, tries again and reports."""

import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import escape
from urllib.parse import unquote

import pytest
from aiohttp import web

from chassis.s3 import ChangedError, GoneError, UnreachableError, open_bucket
from chassis.settings import S3Settings
from tests.connected.streams import free_port
from tools.ledger import sources
from tools.ledger.transform import Period

ODD = "x/tab\there//a+b %.csv"


class Store:
    """Objects by key; `failures` are the statuses of the next answers, `requests` what was asked."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        self.objects, self.failures, self.requests = objects, list[int](), list[str]()

    async def answer(self, request: web.Request) -> web.Response:
        """What S3 answers to ListObjectsV2 and to a GET of a range."""
        path, _, query = request.raw_path.partition("?")
        self.requests.append(request.raw_path)
        assert request.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=placar/")
        if self.failures:
            return web.Response(status=self.failures.pop(0), text="<Error/>")
        key = unquote(path.removeprefix("/sales-data").removeprefix("/"))
        if not key:
            return self._listing(query)
        if key not in self.objects:
            return web.Response(status=404)
        if request.headers.get("if-match", '"e"') != '"e"':
            return web.Response(status=412)
        first, last = (int(n) for n in request.headers["range"].removeprefix("bytes=").split("-"))
        return web.Response(status=206, body=self.objects[key][first : last + 1])

    def _listing(self, query: str) -> web.Response:
        options = dict(pair.split("=") for pair in query.split("&"))
        after = unquote(options.get("continuation-token", ""))
        keys = sorted(key for key in self.objects if key.startswith(unquote(options["prefix"])) and key > after)
        page = keys[: int(options["max-keys"])]
        more = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if len(page) < len(keys) else ""
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-02-19T10:00:00Z</LastModified>"
            f"<ETag>&quot;e&quot;</ETag><Size>{len(self.objects[key])}</Size></Contents>"
            for key in page
        )
        truncated = f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>"
        return web.Response(text=f"<ListBucketResult>{truncated}{more}{contents}</ListBucketResult>")


@asynccontextmanager
async def serving(store: Store) -> AsyncIterator[S3Settings]:
    """The store as a server, and the settings that reach it."""
    port = free_port()
    app = web.Application()
    app.router.add_get("/{key:.*}", store.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield S3Settings(endpoint=f"http://127.0.0.1:{port}")
    finally:
        await runner.cleanup()


async def test_everything_is_listed_and_read() -> None:
    """Pages follow each other to the end, and every key is asked for as it is."""
    store = Store({name: name.encode() for name in ("a.csv", ODD, "x/../up.csv", "z.csv")})
    async with serving(store) as settings, open_bucket(settings) as bucket:
        pages = [page async for page in bucket.pages("", 3)]
        assert [len(page) for page in pages] == [3, 1]
        for listed in (listed for page in pages for listed in page):
            assert await bucket.read(listed.key, 0, listed.size, listed.etag) == listed.key.encode()
        assert await bucket.read("a.csv", 2, 4, "e") == b"cs"
        assert [listed.key for page in [page async for page in bucket.pages("x/t")] for listed in page] == [ODD]


async def test_what_fails_is_tried_again_or_named() -> None:
    """An answer in trouble is tried again and reported when it stays; another version and no object are told apart."""
    store = Store({"a.csv": b"abc"})
    async with serving(store) as settings, open_bucket(settings) as bucket:
        store.failures = [503, 500]
        assert await bucket.read("a.csv", 0, 3, '"e"') == b"abc"
        store.failures = [403] * 4
        with pytest.raises(UnreachableError, match="status 403"):
            await anext(bucket.pages())
        with pytest.raises(ChangedError):
            await bucket.read("a.csv", 0, 3, '"other"')
        with pytest.raises(GoneError):
            await bucket.read("b.csv", 0, 3, "")
    async with open_bucket(S3Settings(endpoint=f"http://127.0.0.1:{free_port()}")) as bucket:
        with pytest.raises(UnreachableError, match="Connect"):
            await anext(bucket.pages())


async def test_the_ledger_reads_every_file() -> None:
    """Plain and packed files under any key are read; damaged ones and other objects stop nothing."""
    hour = 1_771_495_200_000
    row = "{},Ana,Recife,BR,1.00,SSD,2026-02-19T10:15:00Z\n"
    header = ",".join(sources.COLUMNS) + "\n"
    store = Store(
        {
            "a.csv": (header + row.format("F-1")).encode(),
            ODD: (header + row.format("F-2")).encode(),
            "c.csv.gz": gzip.compress((header + row.format("F-3")).encode()),
            "d.csv.gz": gzip.compress((header + row.format("F-4")).encode())[:-9],
            "e.txt": b"notes",
        }
    )
    async with serving(store) as settings:
        sales = await sources.files(settings, Period(hour, hour + 3_600_000), 3_600_000)
    assert set(sales) >= {"F-1", "F-2", "F-3"}
    assert not [request for request in store.requests if "e.txt" in request]
