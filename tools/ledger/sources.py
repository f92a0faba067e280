"""What the three sources hold of a period: rows of the database, of the CSV files, sales of the legacy service."""

import asyncio
import csv
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC

import asyncpg
import httpx
from lxml import etree

from chassis import s3
from chassis.errors import NotDoneError
from chassis.postgres import open_connection
from chassis.s3 import Bucket, ChangedError, GoneError, UnreachableError, open_bucket
from chassis.s3_protocol import Object
from chassis.settings import LegacySoapSettings, PostgresSettings, S3Settings
from chassis.unpack import UnpackError, unpacked
from contracts.time import at_ms, to_ms
from tools.ledger.transform import Period, Sales, enter_newest
from tools.raw_sales import SaleVersion, sale_id, written

COLUMNS = ["sale_id", "salesman_name", "city", "country", "amount", "product", "sale_date"]
MAX_ROW = 1_000_000
CHUNK_BYTES = 8 * 1024 * 1024
MAX_ANSWER_BYTES = 64 * 1024 * 1024
TIMEOUT_S = 60.0
IDS_AT_ONCE = 10_000

_CALL = """<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/" xmlns:s="urn:placar:sales"><e:Body>\
<s:GetRecentSales><s:sinceTimestamp>{since}</s:sinceTimestamp></s:GetRecentSales></e:Body></e:Envelope>"""


@contextmanager
def _reporting(server: str, *errors: type[Exception]) -> Iterator[None]:
    """Makes these errors a NotDoneError that names the server, its address and settings."""
    try:
        yield
    except NotDoneError as error:
        raise NotDoneError(f"{server}: {error}") from error
    except errors as error:
        raise NotDoneError(f"{server}: {error!r}") from error


@asynccontextmanager
async def database(settings: PostgresSettings) -> AsyncIterator[asyncpg.Connection]:
    """A connection to the retailer's database.

    Raises:
        NotDoneError: it is unavailable or rejects us, also while the connection is used.
    """
    server = f"postgres at {settings.host}:{settings.port} (settings POSTGRES_*)"
    with _reporting(server, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        connection = await open_connection(settings, TIMEOUT_S)
        try:
            yield connection
        finally:
            await connection.close()


def _versions(rows: Iterable[asyncpg.Record]) -> Sales:
    return {str(row["id"]): SaleVersion(to_ms(row["sale_date"].replace(tzinfo=UTC))) for row in rows}


async def rows(connection: asyncpg.Connection, period: Period) -> Sales:
    """The database's sales of the period."""
    start, end = (at_ms(moment).replace(tzinfo=None) for moment in (period.start, period.end))
    query = "select id, sale_date from sales where sale_date >= $1 and sale_date < $2"
    return _versions(await connection.fetch(query, start, end))


async def rows_of(connection: asyncpg.Connection, names: Iterable[str]) -> Sales:
    """The database's sales with these ids, whenever they happened."""
    ids = [int(name) for name in names if name.isdigit()]
    query = "select id, sale_date from sales where id = any($1::bigint[])"
    sales: Sales = {}
    for first in range(0, len(ids), IDS_AT_ONCE):
        sales |= _versions(await connection.fetch(query, ids[first : first + IDS_AT_ONCE]))
    return sales


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + bytes(chunk)).split(b"\n")
        for line in whole:
            yield line.decode("utf-8", errors="replace") + "\n"
    if rest:
        yield rest.decode("utf-8", errors="replace")


def _rows(chunks: Iterable[bytes]) -> Iterator[list[str]]:
    """The rows of a CSV file; what is no CSV in the middle of others is a row of one column."""
    csv.field_size_limit(MAX_ROW)
    table = csv.reader(_lines(chunks), strict=True)
    while True:
        try:
            yield next(table)
        except csv.Error:
            yield [""]
        except StopIteration:
            return


def read_csv(chunks: Iterable[bytes], period: Period, into: Sales) -> None:
    """Enter the sales of one file that happened in the period; what is no file or row of sales is a dead letter."""
    rows = _rows(chunks)
    if next(rows, None) != COLUMNS:
        return
    for row in rows:
        at = written(row[-1]) if len(row) == len(COLUMNS) else None
        if period.has(at):
            enter_newest(into, sale_id(row[0]), SaleVersion(at))


def _chunks(bucket: Bucket, listed: Object, loop: asyncio.AbstractEventLoop) -> Iterator[bytes]:
    """The bytes of an object, for a thread beside the loop."""
    for first in range(0, listed.size, CHUNK_BYTES):
        read = bucket.read(listed.key, first, min(first + CHUNK_BYTES, listed.size), listed.etag)
        yield asyncio.run_coroutine_threadsafe(read, loop).result()


async def files(settings: S3Settings, period: Period, slack: int) -> Sales:
    """The sales of the period in the bucket's CSV files, packed or not, in bounded memory per file.

    What was uploaded more than `slack` ms before the period cannot hold a sale of it.

    Raises:
        NotDoneError: the store is unavailable.
    """
    loop = asyncio.get_running_loop()
    sales: Sales = {}
    server = f"object store at {settings.endpoint} (settings {s3.SETTING})"
    with _reporting(server, UnreachableError):
        async with open_bucket(settings) as bucket:
            async for page in bucket.pages():
                for listed in page:
                    key = listed.key.lower()
                    if not key.endswith((".csv", ".csv.gz")) or listed.last_modified < period.start - slack:
                        continue
                    chunks = _chunks(bucket, listed, loop)
                    content = unpacked(chunks) if key.endswith(".gz") else chunks
                    # of a file that is another version or gone since it was listed, or damaged, what was read stays
                    with suppress(GoneError, ChangedError, UnpackError):
                        await asyncio.to_thread(read_csv, content, period, sales)
    return sales


def sales_of(answer: bytes, period: Period) -> Sales:
    """The sales of the period in an answer of the legacy service.

    Raises:
        NotDoneError: not an answer with sales.
    """
    parser = etree.XMLParser(resolve_entities=False, load_dtd=False, no_network=True, huge_tree=False)
    try:
        document = etree.fromstring(answer, parser)
    except etree.XMLSyntaxError as error:
        raise NotDoneError(f"no XML: {error}; it begins {answer[:100]!r}") from error
    if next(document.iter("{*}GetRecentSalesResponse"), None) is None:
        raise NotDoneError(f"no sales; it begins {answer[:200]!r}")
    sales: Sales = {}
    for element in document.iter("{*}Sale"):
        at = element.findtext("{*}saleDate") or ""
        if at.strip().lstrip("-").isdigit() and period.has(int(at)):
            enter_newest(sales, sale_id(element.findtext("{*}saleId")), SaleVersion(int(at)))
    return sales


async def legacy(settings: LegacySoapSettings, period: Period, slack: int) -> Sales:
    """The sales of the period that the legacy service still has in its book.

    Raises:
        NotDoneError: it is unavailable, or answers something else.
    """
    call = _CALL.format(since=max(period.start - slack, 0)).encode()
    headers = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": '"GetRecentSales"'}
    body = bytearray()
    server = f"legacy service at {settings.url} (settings LEGACY_SOAP_HOST, LEGACY_SOAP_PORT)"
    with _reporting(server, httpx.HTTPError):
        async with (
            httpx.AsyncClient(timeout=TIMEOUT_S) as client,
            client.stream("POST", settings.url, content=call, headers=headers) as answer,
        ):
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > MAX_ANSWER_BYTES:
                    raise NotDoneError(f"longer than {MAX_ANSWER_BYTES} bytes")
        return sales_of(bytes(body), period)
