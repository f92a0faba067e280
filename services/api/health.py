"""Health of what the API needs: each check bounded in time, and cached so that many askers cost one check."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from asynch.errors import ServerException

from chassis.clickhouse import ClickHouse, StoreAway
from chassis.settings import KafkaSettings
from services.api.models import State

CACHE_S = 1.0
LIMIT_S = 1.0


class Check:
    """One cached check. `ask` raises one of `errors` when the server is away."""

    def __init__(self, ask: Callable[[], Awaitable[None]], errors: tuple[type[BaseException], ...]) -> None:
        self._ask = ask
        self._errors = errors
        self._lock = asyncio.Lock()
        self._known: tuple[float, State, str] | None = None

    async def state(self) -> tuple[State, str]:
        """UP, or DOWN and why; at most CACHE_S seconds old, after at most about LIMIT_S."""
        async with self._lock:
            if self._known is None or time.monotonic() - self._known[0] > CACHE_S:
                state: State = "UP"
                why = ""
                try:
                    async with asyncio.timeout(LIMIT_S):
                        await self._ask()
                except TimeoutError:
                    state, why = "DOWN", f"no answer in {LIMIT_S} s"
                except self._errors as error:
                    state, why = "DOWN", str(error) or repr(error)
                self._known = (time.monotonic(), state, why)
            return self._known[1], self._known[2]


def clickhouse_check(store: ClickHouse) -> Check:
    """Up when a query is answered."""

    async def ask() -> None:
        await store.select("SELECT 1")

    return Check(ask, (StoreAway, ServerException))


class KafkaProbe:
    """A long-lived client that asks the broker for metadata; made anew when it could not start."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._bootstrap = settings.bootstrap
        self._client: AIOKafkaClient | None = None

    async def ask(self) -> None:
        """Return when a broker answered.

        Raises:
            KafkaError | OSError: none does.
        """
        if self._client is None:
            client = AIOKafkaClient(bootstrap_servers=self._bootstrap, client_id="api-health", request_timeout_ms=1000)
            try:
                await client.bootstrap()
            except BaseException:
                await client.close()
                raise
            self._client = client
        await self._client.fetch_all_metadata()

    def check(self) -> Check:
        """The probe as a cached check."""
        return Check(self.ask, (KafkaError, OSError))

    async def close(self) -> None:
        """Close the client."""
        if self._client is not None:
            with suppress(KafkaError, OSError):
                await self._client.close()
