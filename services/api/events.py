"""The live stream as server-sent events, and the end of a connection of either kind."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from chassis.asgi import ABORT
from services.api.hub import GONE, Hub
from services.api.protocol import Subscribe
from services.api.settings import ApiSettings

CLOSE_S = 5.0  # for so long a closing connection may take what it still has to read
RETRY_MS = 2000


class Events(Response):
    """An endless answer of server-sent events."""

    media_type = "text/event-stream"

    def __init__(self, hub: Hub, settings: ApiSettings, subscribe: Subscribe, done: Callable[[], None]) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "Connection": "close"})
        del self.headers["content-length"]
        self._hub = hub
        self._limit_s = settings.live_send_timeout_s
        self._subscribe = subscribe
        self._done = done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the client is gone, too slow, or the process stops."""
        client, snapshot = self._hub.join("sse", self._subscribe.subscription, self._subscribe.since)

        async def gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            client.end(GONE, "")

        async def write(data: bytes, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": more})

        receiving = asyncio.create_task(gone())
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await write(f"retry: {RETRY_MS}\n\n".encode())
            client.offer("snapshot", snapshot)
            await client.sending(lambda frame: write(frame.event), self._limit_s)
        finally:
            receiving.cancel()
            self._hub.leave("sse", client)
            self._done()
        await finish(write(b"", more=False), scope)


async def finish(last: Awaitable[None], scope: Scope | Mapping[str, Any]) -> None:
    """Send the last message; who has not taken it after CLOSE_S is cut off, and what waits for them is dropped."""
    abort: Callable[[], None] = scope["extensions"][ABORT]
    asyncio.get_running_loop().call_later(CLOSE_S, abort)  # a connection that has ended by then is left alone
    await last
