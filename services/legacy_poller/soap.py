"""The SOAP client (zeep): one operation, whose answer is bounded."""

import asyncio
from dataclasses import dataclass
from typing import Any

import httpx
from lxml import etree
from zeep import AsyncClient, Settings
from zeep.exceptions import Error
from zeep.transports import AsyncTransport

from services.legacy_poller.answer import OPERATION, AnswerError, sales_of

MAX_WSDL_BYTES = 4 * 1024 * 1024
# what a call can raise that another call may not: the service or the network is at fault, never a sale
Unanswered = (AnswerError, Error, httpx.HTTPError, OSError, etree.LxmlError, ValueError)


class _BoundedTransport(AsyncTransport):
    """Reads at most `limit` bytes of an answer and MAX_WSDL_BYTES of the WSDL, unpacked, each within `timeout_s`."""

    def __init__(self, limit: int, timeout_s: float) -> None:
        super().__init__(client=httpx.AsyncClient(timeout=timeout_s))  # type: ignore[no-untyped-call]
        self.wsdl_client.close()  # the WSDL comes through the other one
        self._limit = limit
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()

    async def _read(self, method: str, address: str, what: str, limit: int, **request: Any) -> httpx.Response:
        """The answer to a request, read within its bounds.

        Raises:
            AnswerError: it is longer than `limit`, or the whole took longer than the deadline (a service that drips
                bytes does not hang us).
            httpx.HTTPError: the service does not answer.
        """
        body = bytearray()
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self.client.stream(method, address, **request) as answer,
            ):
                async for part in answer.aiter_bytes():
                    body += part
                    if len(body) > limit:
                        raise AnswerError(f"{what} is longer than {limit} bytes")
        except TimeoutError:
            raise AnswerError(f"{what} was not there within {self._timeout_s:g} s") from None
        kept = {name: value for name, value in answer.headers.items() if name == "content-type"}
        return httpx.Response(answer.status_code, headers=kept, content=bytes(body), request=answer.request)

    async def post(self, address: str, message: bytes, headers: dict[str, str]) -> httpx.Response:
        """POST and read the bounded answer; raises as `_read` does."""
        return await self._read("POST", address, "the answer", self._limit, content=message, headers=headers)

    def _load_remote_data(self, url: str) -> bytes:
        """The WSDL, or what it imports; called in a thread. Raises as `_read` does, and for an answer with an error."""
        reading = self._read("GET", url, "the WSDL", MAX_WSDL_BYTES)
        return asyncio.run_coroutine_threadsafe(reading, self._loop).result().raise_for_status().content


@dataclass(frozen=True)
class SalesClient:
    """A client of the service, bound to its WSDL."""

    client: Any
    service: Any

    async def recent_sales(self, since: int) -> list[etree._Element | bytes]:
        """The sales of the answer to GetRecentSales(since), `since` in ms since 1970: see `sales_of`.

        Raises:
            AnswerError: a fault, or an answer that cannot be read whole.
            one of Unanswered: no answer in time.
        """
        answer = await getattr(self.service, OPERATION)(sinceTimestamp=since)
        return sales_of(answer.content, answer.status_code, answer.headers.get("content-type", ""))

    async def close(self) -> None:
        """Close the connections."""
        await self.client.transport.aclose()


def _binding(client: Any) -> str:
    """The name of the WSDL's binding that has the operation.

    Raises:
        ValueError: none has it.
    """
    name = next((name for name, binding in client.wsdl.bindings.items() if OPERATION in binding.all()), None)
    if name is None:
        raise ValueError(f"the WSDL has no operation {OPERATION}")
    return str(name)


async def connect(url: str, timeout_s: float, max_answer_bytes: int) -> SalesClient:
    """Load the WSDL (in a thread: zeep loads it synchronously) and bind the service to `url`.

    The WSDL's own address is not used: behind a proxy or in a container it can be one that we cannot reach.

    Raises:
        one of Unanswered: the WSDL cannot be had or read, or lacks the operation.
    """
    settings = Settings(strict=True, raw_response=True, forbid_dtd=True, forbid_entities=True, xml_huge_tree=False)
    transport: Any = _BoundedTransport(max_answer_bytes, timeout_s)
    try:
        client: Any = await asyncio.to_thread(AsyncClient, f"{url}?wsdl", transport=transport, settings=settings)
        return SalesClient(client, client.create_service(_binding(client), url))
    except BaseException:
        await transport.aclose()
        raise
