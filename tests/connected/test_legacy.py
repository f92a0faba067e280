"""The legacy SOAP service and its poller against a real broker, and the poller against a service that misbehaves."""

import asyncio
import gzip
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache, partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import zeep
from aiohttp import web
from lxml import etree

from chassis import kafka, logs, progress
from chassis.metrics import Metrics
from chassis.ops import Readiness
from chassis.registry import Registry
from chassis.settings import KafkaSettings, RegistrySettings
from chassis.unit import Unit
from services.legacy_poller.poll import CURSOR
from services.legacy_poller.soap import MAX_WSDL_BYTES, Unanswered, connect
from services.legacy_poller.transform import Cursor
from tests.connected.sources import Reader, peak_bytes, reader, service
from tests.connected.streams import free_port, unique, until
from tests.connected.unit_process import UnitProcess

ENVELOPE = "http://schemas.xmlsoap.org/soap/envelope/"
NAMESPACE = "urn:placar:sales"
MIB = 1024 * 1024
# each entity stands for ten of the one before: a billion in the end
LAUGHS = b'<!ENTITY e0 "ha">' + b"".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">'.encode() for n in range(1, 10))


def soap_environment(servers: Mapping[str, str], folder: Path, **more: object) -> dict[str, str]:
    """The environment of a SOAP service of its own that makes nothing up, and of its poller."""
    own = {
        "LEGACY_SOAP_PORT": free_port(),
        "LEGACY_SOAP_DATA_DIR": folder / "book",
        "LEGACY_SOAP_RATE_PER_MINUTE": 0,
        "LEGACY_POLLER_INTERVAL_S": 0.3,
        "LEGACY_POLLER_TIMEOUT_S": 1,
        **more,
    }
    return {**servers, **{name: str(value) for name, value in own.items()}}


def address(environment: Mapping[str, str]) -> str:
    """Where the service listens."""
    return f"http://127.0.0.1:{environment['LEGACY_SOAP_PORT']}/ws/sales"


def client_of(environment: Mapping[str, str]) -> Any:
    """A client of the service."""
    make: Any = zeep.Client  # typed in part only
    return make(f"{address(environment)}?wsdl")


async def register(environment: Mapping[str, str], *sales: dict[str, Any]) -> None:
    """Sell through the service's own operation, as another system would."""

    def call() -> None:
        client = client_of(environment)
        for sale in sales:
            client.service.RegisterSale(sale=sale)

    await asyncio.to_thread(call)


def sale(sale_id: str, amount: str = "10.50") -> dict[str, Any]:
    """A sale as the WSDL wants it."""
    return {
        "saleId": sale_id,
        "salesmanName": "José Lima",
        "city": "São Paulo",
        "country": "BR",
        "amount": Decimal(amount),
        "product": "SSD",
        "saleDate": 1_770_000_000_000,
    }


def amounts(records: list[tuple[bytes | None, dict[str, Any]]]) -> Counter[tuple[str, str]]:
    """How often each (sale id, amount) was published."""
    return Counter((value["sale_id"], value["amount"]) for _, value in records)


async def published(sales: Reader, prefix: str, number: int) -> None:
    """Wait until so many records of a prefix are published."""

    async def enough() -> bool:
        return len(await sales.of(prefix.encode())) >= number

    await until(enough, f"{number} sales are published")


async def polled(process: UnitProcess, calls: int = 2) -> None:
    """Wait until the poller has had so many more answers."""

    async def answered() -> float:
        series = await process.samples()
        return sum(v for name, v in series.items() if 'outcome="answered"' in name and "legacy_calls" in name)

    before = await answered()

    async def more() -> bool:
        return await answered() >= before + calls

    await until(more, f"{calls} more calls are answered")


async def test_no_sale_missed_or_repeated_across_restarts(servers: Mapping[str, str], tmp_path: Path) -> None:
    """Kill either side at any time: every sale is published once, and once more when it changes."""
    prefix, env = unique("restart"), soap_environment(servers, tmp_path)
    async with reader(servers, "sales.legacy") as sales:
        async with service("legacy_soap", env, tmp_path / "soap"):
            await register(env, sale(f"{prefix}-1"), sale(f"{prefix}-2", "-3.100"))
            async with service("legacy_poller", env, tmp_path / "poller") as poller:
                await published(sales, prefix, 2)
                await polled(poller)
                await poller.end(signal.SIGKILL)
            await register(env, sale(f"{prefix}-3"), sale(f"{prefix}-1", "99.00"))
            async with service("legacy_poller", env, tmp_path / "poller") as poller:
                await published(sales, prefix, 4)
                await polled(poller)  # ended before its progress was written, it would publish it again
        async with service("legacy_poller", env, tmp_path / "poller", wait=False) as poller:
            async with service("legacy_soap", env, tmp_path / "soap") as soap:  # its book survives
                await register(env, sale(f"{prefix}-4"))
                await published(sales, prefix, 5)
                await soap.end(signal.SIGKILL)
            async with service("legacy_soap", env, tmp_path / "soap"):
                await register(env, sale(f"{prefix}-5"))
                await published(sales, prefix, 6)
                await polled(poller)
        records = await sales.of(prefix.encode())
        assert amounts(records) == Counter(
            {
                (f"{prefix}-1", "10.50"): 1,
                (f"{prefix}-2", "-3.100"): 1,
                (f"{prefix}-3", "10.50"): 1,
                (f"{prefix}-1", "99.00"): 1,
                (f"{prefix}-4", "10.50"): 1,
                (f"{prefix}-5", "10.50"): 1,
            }
        )
        versions = {value["amount"]: value["fetched_at"] for _, value in records if value["sale_id"] == f"{prefix}-1"}
        assert versions["99.00"] > versions["10.50"]


def answer(*sales: Mapping[str, str]) -> bytes:
    """A whole answer with these sales."""
    envelope = etree.Element(f"{{{ENVELOPE}}}Envelope")
    body = etree.SubElement(envelope, f"{{{ENVELOPE}}}Body")
    response = etree.SubElement(body, f"{{{NAMESPACE}}}GetRecentSalesResponse")
    listed = etree.SubElement(response, f"{{{NAMESPACE}}}sales")
    for values in sales:
        element = etree.SubElement(listed, f"{{{NAMESPACE}}}Sale")
        for name, text in values.items():
            etree.SubElement(element, f"{{{NAMESPACE}}}{name}").text = text
    return etree.tostring(envelope, xml_declaration=True, encoding="UTF-8")


FAULT = (
    f'<e:Envelope xmlns:e="{ENVELOPE}"><e:Body><e:Fault><faultcode>e:Server</faultcode>'
    "<faultstring>the ERP is closed</faultstring></e:Fault></e:Body></e:Envelope>"
).encode()
ENTITIES = b'<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;">]>'
EXTERNAL = b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>'


def hostile(doctype: bytes) -> bytes:
    """A whole answer behind a document type declaration."""
    return answer({"saleId": "hostile"}).replace(b"?>\n", b"?>\n" + doctype)


async def plain(request: web.Request, status: int, body: bytes) -> web.StreamResponse:
    """An answer of these bytes."""
    return web.Response(status=status, body=body, content_type="text/xml")


async def late(request: web.Request) -> web.StreamResponse:
    """No answer before the caller gives up."""
    await asyncio.sleep(30)
    return web.Response()


async def dripping(request: web.Request) -> web.StreamResponse:
    """An answer that never ends, a byte at a time."""
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(300):
        await response.write(b" ")
        await asyncio.sleep(0.1)
    return response


async def flood(request: web.Request) -> web.StreamResponse:
    """An answer of 100 MiB."""
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(100):
        await response.write(b" " * MIB)
    return response


@cache
def packed() -> bytes:
    """100 MiB in 100 KiB; made before the request, since a caller waits a second only."""
    return gzip.compress(b" " * 100 * MIB)


async def gzip_bomb(request: web.Request) -> web.StreamResponse:
    """An answer of 100 MiB, packed."""
    return web.Response(body=packed(), headers={"Content-Type": "text/xml", "Content-Encoding": "gzip"})


async def cut_off(request: web.Request) -> web.StreamResponse:
    """An answer whose connection ends before its announced length."""
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b"<a")
    assert request.transport is not None
    request.transport.close()
    return response


Misbehaviour = Callable[[web.Request], Any]
MISBEHAVIOURS: dict[str, Misbehaviour] = {
    "fault": lambda r: plain(r, 500, FAULT),
    "fault_with_status_200": lambda r: plain(r, 200, FAULT),
    "error_page": lambda r: plain(r, 503, b"<html>busy</html>"),
    "error_without_body": lambda r: plain(r, 500, b""),
    "empty": lambda r: plain(r, 200, b""),
    "truncated": lambda r: plain(r, 200, answer({"saleId": "truncated"})[:-40]),
    "another_operation": lambda r: plain(r, 200, answer().replace(b"GetRecentSales", b"GetOldSales")),
    "other_elements": lambda r: plain(r, 200, answer({"saleId": "hostile"}).replace(b":Sale", b":Verkauf")),
    "wrong_charset": lambda r: plain(r, 200, answer({"saleId": "hostile é"}).decode().encode("latin-1")),
    "not_xml": lambda r: plain(r, 200, b"\x00\xff{}"),
    "entity_bomb": lambda r: plain(r, 200, hostile(ENTITIES)),
    "external_entity": lambda r: plain(r, 200, hostile(EXTERNAL)),
    "too_long": lambda r: plain(r, 200, answer({"saleId": "hostile"}) + b" " * MIB),
    "late": late,
    "dripping": dripping,
    "flood": flood,
    "gzip_bomb": gzip_bomb,
    "cut_off": cut_off,
}


@asynccontextmanager
async def misbehaving(
    wsdl: bytes, port: int, script: list[Misbehaviour], good: bytes, descriptions: Sequence[Misbehaviour] = ()
) -> AsyncIterator[list[int]]:
    """A service that answers calls by the script, then well; gives the sinceTimestamp of each call.

    It answers the first requests for its WSDL by `descriptions`.
    """
    described = list(descriptions)
    starts: list[int] = []

    async def call(request: web.Request) -> web.StreamResponse:
        start = etree.fromstring(await request.read()).findtext(f".//{{{NAMESPACE}}}sinceTimestamp")
        starts.append(int(start or -1))
        if script:
            answered: web.StreamResponse = await script.pop(0)(request)
            return answered
        return await plain(request, 200, good)

    async def describe(request: web.Request) -> web.StreamResponse:
        if described:
            answered: web.StreamResponse = await described.pop(0)(request)
            return answered
        return await plain(request, 200, wsdl)

    app = web.Application()
    app.add_routes([web.get("/ws/sales", describe), web.post("/ws/sales", call)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield starts
    finally:
        await runner.cleanup()


async def description(env: Mapping[str, str], tmp_path: Path) -> bytes:
    """The WSDL of the real service, which is stopped again."""
    async with service("legacy_soap", env, tmp_path / "soap"), httpx.AsyncClient() as client:

        async def described() -> bool:
            return (await client.get(f"{address(env)}?wsdl")).status_code == httpx.codes.OK

        await until(described, "the WSDL is there")
        return (await client.get(f"{address(env)}?wsdl")).content


async def test_a_misbehaving_service_loses_nothing(servers: Mapping[str, str], tmp_path: Path) -> None:
    """Faults, timeouts, truncated, malformed, hostile and endless answers are tried again from the same moment."""
    prefix, env = unique("misbehaving"), soap_environment(servers, tmp_path, LEGACY_POLLER_MAX_ANSWER_BYTES=1_000_000)
    wsdl = await description(env, tmp_path)
    bad = f"{prefix} A & B"
    good = answer(
        {"saleId": bad},
        {"saleId": f"{prefix}-1", "amount": "1.00", "saleDate": "5"},
        {"saleId": f"{prefix}-2", "amount": "abc", "saleDate": "5"},
        {"saleId": f"{prefix}-3", "saleDate": "yesterday"},
        {"saleId": f"{prefix}-4"},
    ).replace(b"&amp;", b"&")  # one sale is not well-formed
    port = int(env["LEGACY_SOAP_PORT"])
    script = list(MISBEHAVIOURS.values())
    packed()
    async with (
        reader(servers, "sales.legacy") as sales,
        reader(servers, "sales.dlq") as dead,
        misbehaving(wsdl, port, script, good) as starts,
        service("legacy_poller", env, tmp_path / "poller", wait=False) as poller,
    ):
        await published(sales, prefix, 3)
        await polled(poller)
        failed = int(sum(v for name, v in (await poller.samples()).items() if 'outcome="failed"' in name))
        assert failed == len(MISBEHAVIOURS)
        assert starts[: failed + 1] == [starts[0]] * (failed + 1)
        read = amounts(await sales.of(prefix.encode()))
        assert read == Counter([(f"{prefix}-1", "1.00"), (f"{prefix}-2", "abc"), (f"{prefix}-4", None)])
        rejected = [v for _, v in await dead.read() if v["key"] == f"{prefix}-3".encode()]
        assert [v["reason"] for v in rejected] == ["legacy_malformed"]
        assert b"yesterday" in rejected[0]["value"]
        malformed = [v for _, v in await dead.read() if bad.encode() in (v["value"] or b"")]
        assert [(v["reason"], v["key"]) for v in malformed] == [("legacy_malformed", None)]
        assert not [value for _, value in sales.records if value["sale_id"] in ("hostile", "truncated")]
        assert peak_bytes(poller) <= 300 * MIB


async def test_a_hostile_description_is_rejected(tmp_path: Path) -> None:
    """A WSDL that is too long, slow or holds entities is rejected within bounds; a good one is then used."""
    env = soap_environment({}, tmp_path)
    wsdl = await description(env, tmp_path)
    entities, external = [wsdl.replace(b"?>", b"?>" + doctype, 1) for doctype in (ENTITIES, EXTERNAL)]
    packed()
    descriptions: dict[Misbehaviour, str] = {
        flood: "longer than",
        gzip_bomb: "longer than",
        partial(plain, status=200, body=wsdl + b" " * MAX_WSDL_BYTES): "longer than",
        dripping: "was not there within 3 s",
        partial(plain, status=200, body=entities): "DTDForbidden",
        partial(plain, status=200, body=external): "DTDForbidden",
    }
    async with misbehaving(wsdl, int(env["LEGACY_SOAP_PORT"]), [], answer({"saleId": "good"}), list(descriptions)):
        for why in descriptions.values():
            with pytest.raises(Unanswered) as rejected:
                await connect(address(env), 3, MIB)
            assert why in repr(rejected.value)
        client = await connect(address(env), 3, MIB)
        (sale,) = await client.recent_sales(0)
        assert not isinstance(sale, bytes)
        assert sale.findtext("{*}saleId") == "good"
        await client.close()


async def test_a_clock_that_went_back(servers: Mapping[str, str], tmp_path: Path) -> None:
    """A poller whose clock was a day ahead misses nothing, and what it publishes is newer than all before."""
    prefix, env = unique("clock"), soap_environment(servers, tmp_path)
    ahead = time.time_ns() // 1_000_000 + 86_400_000
    unit = Unit("legacy_poller", logs.configure("legacy_poller", "error"), Metrics("legacy_poller"), Readiness())
    kafka_settings = KafkaSettings(host=servers["KAFKA_HOST"], port=int(servers["KAFKA_PORT"]))
    registry = Registry(
        unit, RegistrySettings(host=servers["SCHEMA_REGISTRY_HOST"], port=int(servers["SCHEMA_REGISTRY_PORT"]))
    )
    encode = await registry.encoder(progress.TOPIC)
    async with kafka.producer(unit, kafka_settings) as client:
        position = Cursor(ahead, ahead).position()
        await kafka.publish(client, [progress.record(encode, unit.name, CURSOR, position)])
    async with reader(servers, "sales.legacy") as sales, service("legacy_soap", env, tmp_path / "soap"):
        await register(env, sale(f"{prefix}-1"))
        async with service("legacy_poller", env, tmp_path / "poller") as poller:
            await published(sales, prefix, 1)
            await register(env, sale(f"{prefix}-2"), sale(f"{prefix}-1", "99.00"))
            await published(sales, prefix, 3)
            await polled(poller)
        records = await sales.of(prefix.encode())
        assert amounts(records) == Counter(
            {(f"{prefix}-1", "10.50"): 1, (f"{prefix}-1", "99.00"): 1, (f"{prefix}-2", "10.50"): 1}
        )
        versions = {value["amount"]: value["fetched_at"] for _, value in records if value["sale_id"] == f"{prefix}-1"}
        assert datetime.fromtimestamp(ahead / 1000, UTC) < versions["10.50"] < versions["99.00"]


async def test_an_unreachable_service_is_named(servers: Mapping[str, str], tmp_path: Path) -> None:
    """While the service does not answer the poller is not ready and says which address and setting."""
    env = soap_environment(servers, tmp_path)
    async with service("legacy_poller", env, tmp_path / "poller", wait=False) as poller:

        async def named() -> bool:
            why = (await poller.missing() or {}).get("legacy service", "")
            return address(env) in why and "LEGACY_SOAP_PORT" in why

        await until(named, "the service's address and setting are named")


# what a request holds: the status of its answer
REQUESTS: list[tuple[bytes, int]] = [
    (b"", 400),
    (b" \n", 400),
    (gzip.compress(b"<a/>"), 400),
    ("<a>é</a>".encode("latin-1"), 400),
    (b'<!DOCTYPE a [<!ENTITY b "b">]><a>&b;</a>', 400),
    (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', 400),
    (b"<!DOCTYPE a [" + LAUGHS + b"]><a>&e9;</a>", 400),
    (b"<a>" * 200_000, 500),
    (b" " * 100 * MIB, 413),
    (b"<a>", 500),
]


async def test_the_service_rejects_hostile_requests(tmp_path: Path) -> None:
    """Document types and requests of 100 MiB are rejected at once, and the service goes on answering."""
    env = soap_environment({}, tmp_path)
    async with service("legacy_soap", env, tmp_path / "soap") as soap, httpx.AsyncClient(timeout=30) as client:
        for body, status in REQUESTS:
            begun = time.monotonic()
            answered = await client.post(address(env), content=body, headers={"Content-Type": "text/xml"})
            assert answered.status_code == status, body[:50]
            assert time.monotonic() - begun < 10
        packed_request = {"Content-Type": "text/xml", "Content-Encoding": "gzip"}
        answered = await client.post(address(env), content=gzip.compress(b"<a/>"), headers=packed_request)
        assert (answered.status_code, "packed" in answered.text) == (415, True)
        assert peak_bytes(soap) <= 150 * MIB
        await register(env, sale("after"))


async def test_sales_are_made_up_as_time_passes(tmp_path: Path) -> None:
    """At a rate the service has plausible sales from its start, and later ones that it had not given before."""
    env = soap_environment({}, tmp_path, LEGACY_SOAP_RATE_PER_MINUTE=120)
    async with service("legacy_soap", env, tmp_path / "soap"):

        def recent() -> set[str]:
            client = client_of(env)
            return {sale.saleId for sale in client.service.GetRecentSales(0) if sale.amount > 0 and sale.city}

        first = await asyncio.to_thread(recent)
        assert len(first) >= 100

        async def more() -> bool:
            return len(await asyncio.to_thread(recent) - first) >= 2

        await until(more, "new sales are made up", deadline_s=20)
