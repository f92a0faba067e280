"""Sales through the legacy system's own operation."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import httpx
from lxml import etree
from zeep import AsyncClient
from zeep.exceptions import Error
from zeep.proxy import AsyncServiceProxy
from zeep.transports import AsyncTransport

from contracts.reference import COUNTRY
from tools.traffic.retail import Sold

SETTING = "LEGACY_SOAP_HOST, LEGACY_SOAP_PORT"
PARALLEL = 8
TIMEOUT_S = 10
Unreachable = (Error, httpx.HTTPError, OSError, etree.LxmlError)


async def open_erp(url: str) -> Any:
    """A client of the service; the WSDL is loaded in a thread, as zeep loads it synchronously."""
    transport: Any = AsyncTransport  # zeep is typed in part only
    return await asyncio.to_thread(
        AsyncClient, f"{url}?wsdl", transport=transport(timeout=TIMEOUT_S, operation_timeout=TIMEOUT_S)
    )


async def register(client: Any, url: str, sales: Iterable[tuple[str, Sold]]) -> None:
    """Register sales at `url` under their ids, some at a time. Registering one again changes nothing.

    The WSDL's own address is not used: of a service in a container it is one that only other containers reach.
    """
    proxy: Any = AsyncServiceProxy  # zeep is typed in part only
    (binding,) = client.wsdl.bindings.values()
    service = proxy(client, binding, address=url)
    gate = asyncio.Semaphore(PARALLEL)

    async def one(sale_id: str, sold: Sold) -> None:
        sale = {
            "saleId": sale_id,
            "salesmanName": sold.person.name,
            "city": sold.city,
            "country": COUNTRY,
            "amount": sold.amount,
            "product": sold.product,
            "saleDate": round(datetime.now(UTC).timestamp() * 1000),
        }
        async with gate:
            await service.RegisterSale(sale=sale)

    async with asyncio.TaskGroup() as tasks:
        for sale_id, sold in sales:
            tasks.create_task(one(sale_id, sold))
