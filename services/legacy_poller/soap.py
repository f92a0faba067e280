"""The SOAP client (zeep): one operation, whose answer is bounded."""

import asyncio
import time
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
        super().__init__(  # type: ignore[no-untyped-call]
            client=httpx.AsyncClient(timeout=timeout_s), wsdl_client=httpx.Client(timeout=timeout_s), timeout=timeout_s
        )
        self._limit = limit
        self._timeout_s = timeout_s

    async def post(self, address: str, message: bytes, headers: dict[str, str]) -> httpx.Response:
        """POST and read the bounded answer.

        Raises:
            AnswerError: the answer is longer than the limit.
            TimeoutError: the whole answer took longer than the deadline (a service that drips bytes does not hang us).
        """
        body = bytearray()
        async with (
            asyncio.timeout(self._timeout_s),
            self.client.stream("POST", address, content=message, headers=headers) as answer,
        ):
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > self._limit:
                    raise AnswerError(f"the answer is longer than {self._limit} bytes")
        kept = {name: value for name, value in answer.headers.items() if name == "content-type"}
        return httpx.Response(answer.status_code, headers=kept, content=bytes(body), request=answer.request)

    def _load_remote_data(self, url: str) -> bytes:
        """The WSDL, or what it imports; called in a thread.

        Raises:
            AnswerError: it is longer than MAX_WSDL_BYTES, or the whole took longer than the deadline.
            httpx.HTTPError: the service does not answer, or with an error.
        """
        body = bytearray()
        ends = time.monotonic() + self._timeout_s
        with self.wsdl_client.stream("GET", url) as answer:
            answer.raise_for_status()
            for part in answer.iter_bytes():
                body += part
                if len(body) > MAX_WSDL_BYTES:
                    raise AnswerError(f"the WSDL is longer than {MAX_WSDL_BYTES} bytes")
                if time.monotonic() > ends:
                    raise AnswerError(f"the WSDL was not there within {self._timeout_s:g} s")
        return bytes(body)


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
        self.client.transport.wsdl_client.close()


def _binding(client: Any) -> str:
    """The name of the WSDL's binding that has the operation.

    Raises:
        ValueError: none has it.
    """
    for name, binding in client.wsdl.bindings.items():
        if OPERATION in binding.all():
            return str(name)
    raise ValueError(f"the WSDL has no operation {OPERATION}")


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
        transport.wsdl_client.close()
        raise
