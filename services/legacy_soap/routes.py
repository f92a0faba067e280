"""The SOAP service (spyne) and the ASGI application around it, which bounds what it reads."""

from collections.abc import Iterable
from typing import Any

from a2wsgi import WSGIMiddleware
from spyne import Application, ComplexModel, Decimal, Long, ServiceBase, Unicode, rpc
from spyne import Iterable as SpyneIterable
from spyne.protocol.soap import Soap11
from spyne.server.wsgi import WsgiApplication
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.unit import Unit
from services.legacy_soap.book import Book, BookedSale
from services.legacy_soap.metrics import CALLS
from services.legacy_soap.transform import RejectedError, message_of

NAMESPACE = "urn:placar:sales"
PATH = "/ws/sales"
WORKERS = 8


class Sale(ComplexModel):  # type: ignore[misc] # spyne has no types
    """A sale in the WSDL; every element is optional."""

    __namespace__ = NAMESPACE
    _type_info = (
        ("saleId", Unicode),
        ("salesmanName", Unicode),
        ("city", Unicode),
        ("country", Unicode),
        ("amount", Decimal),
        ("product", Unicode),
        ("saleDate", Long),
    )


def _soap(sale: BookedSale) -> Any:
    return Sale(
        saleId=sale.sale_id,
        salesmanName=sale.salesman_name,
        city=sale.city,
        country=sale.country,
        amount=sale.amount,
        product=sale.product,
        saleDate=sale.sale_date,
    )


def _booked(sale: Any) -> BookedSale:
    amount = None if sale.amount is None else format(sale.amount, "f")
    return BookedSale(sale.saleId, sale.salesmanName, sale.city, sale.country, amount, sale.product, sale.saleDate)


def soap_application(book: Book, unit: Unit, url: str) -> WsgiApplication:
    """The WSGI application; its WSDL says `url` as the address."""
    calls = unit.metrics[CALLS]

    class SalesService(ServiceBase):  # type: ignore[misc]
        """Operations on the book of sales."""

        @rpc(Long(min_occurs=1, nillable=False), _returns=SpyneIterable(Sale), _out_variable_name="sales")  # type: ignore[untyped-decorator]
        def GetRecentSales(self, sinceTimestamp: int) -> Iterable[Any]:  # noqa: N802, N803 - names of the WSDL
            """Sales recorded at or after sinceTimestamp (ms since 1970)."""
            calls.inc({"operation": "GetRecentSales"})
            return map(_soap, book.since(sinceTimestamp))

        @rpc(Sale.customize(min_occurs=1, nillable=False), _returns=Unicode, _out_variable_name="saleId")  # type: ignore[untyped-decorator]
        def RegisterSale(self, sale: Any) -> str | None:  # noqa: N802 - name of the WSDL
            """Write a sale into the book as it is given; a sale of a known id replaces it."""
            calls.inc({"operation": "RegisterSale"})
            booked = _booked(sale)
            book.record([booked])
            return booked.sale_id

    application = Application([SalesService], NAMESPACE, in_protocol=Soap11(validator="lxml"), out_protocol=Soap11())
    wsgi = WsgiApplication(application)
    # built here: otherwise the Host header of whoever asks first decides the address for everyone
    wsgi.doc.wsdl11.build_interface_document(url)
    wsgi._wsdl = wsgi.doc.wsdl11.get_interface_document()
    return wsgi


async def _message(request: Request, limit: int) -> bytes:
    """What the SOAP layer reads of a request.

    Raises:
        RejectedError: the request does not reach it.
        ClientDisconnect: the client went away before it had sent all of it.
    """
    if request.url.path.rstrip("/") != PATH:
        raise RejectedError(404, f"the service is at {PATH}, its description at {PATH}?wsdl")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise RejectedError(413, f"a request has at most {limit} bytes")
    if request.method != "POST":
        return bytes(body)
    headers = request.headers
    return message_of(bytes(body), headers.get("content-encoding", ""), headers.get("content-type", ""))


def asgi(soap: WsgiApplication, limit: int) -> ASGIApp:
    """The service at PATH, which reads a request of at most `limit` bytes and no document type declaration."""
    inner: Any = WSGIMiddleware(soap, workers=WORKERS)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            message = await _message(Request(scope, receive), limit)
        except ClientDisconnect:
            return
        except RejectedError as rejection:
            await PlainTextResponse(f"{rejection}\n", rejection.status)(scope, receive, send)
            return
        headers = MutableHeaders(raw=list(scope["headers"]))
        headers.update({"content-type": "text/xml; charset=utf-8", "content-length": str(len(message))})

        async def replay() -> Message:
            return {"type": "http.request", "body": message, "more_body": False}

        await inner({**scope, "headers": headers.raw}, replay, send)

    return app
