"""Health of what the API needs: each check bounded in time, and cached so that many askers cost one check."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from asynch.errors import ServerException

from chassis.clickhouse import ClickHouse, StoreUnavailableError, rejection
from chassis.settings import KafkaSettings
from contracts.time import at_ms
from services.api.models import Freshness, ServerHealth, State
from services.api.store import Store

CACHE_S = 1.0
LIMIT_S = 1.0
WHY_LENGTH = 200
UNAVAILABLE = (StoreUnavailableError, ServerException, KafkaError, OSError)


class Check:
    """One cached check. `ask` returns what answered, '' where it does not tell, or raises one of UNAVAILABLE."""

    def __init__(self, ask: Callable[[], Awaitable[str]]) -> None:
        self._ask = ask
        self._lock = asyncio.Lock()
        self._known: tuple[float, ServerHealth] | None = None

    async def health(self) -> ServerHealth:
        """What is known of the server; at most CACHE_S seconds old, after at most about LIMIT_S."""
        async with self._lock:
            if self._known is None or time.monotonic() - self._known[0] > CACHE_S:
                self._known = (time.monotonic(), await self._checked(self._known and self._known[1]))
            return self._known[1]

    async def _checked(self, before: ServerHealth | None) -> ServerHealth:
        state: State = "UP"
        version = why = ""
        began = time.perf_counter()
        try:
            async with asyncio.timeout(LIMIT_S):
                version = await self._ask()
        except TimeoutError:
            state, why = "DOWN", f"no answer in {LIMIT_S} s"
        except UNAVAILABLE as error:
            reason = rejection(error) if isinstance(error, ServerException) else str(error) or repr(error)
            state, why = "DOWN", reason[:WHY_LENGTH]
        now = datetime.now(UTC)
        return ServerHealth(
            state=state,
            since=before.since if before is not None and before.state == state else now,
            checked_at=now,
            latency_ms=round((time.perf_counter() - began) * 1000, 1),
            version=version or None,
            why=why or None,
        )


def clickhouse_check(store: ClickHouse) -> Check:
    """Up when a query is answered."""

    async def ask() -> str:
        return str((await store.select("SELECT version()"))[0][0])

    return Check(ask)


async def freshness(store: Store, fresh_s: float) -> Freshness | None:
    """How old the newest ranking is; None where there is none or ClickHouse does not say within LIMIT_S."""
    try:
        async with asyncio.timeout(LIMIT_S):
            newest = await store.newest_as_of()
    except (StoreUnavailableError, ServerException, TimeoutError):
        return None
    if newest is None:
        return None
    as_of = at_ms(newest)
    age = max(0.0, round((datetime.now(UTC) - as_of).total_seconds(), 1))  # another machine's clock may be ahead
    return Freshness(fresh=age <= fresh_s, as_of=as_of, age_seconds=age)


class KafkaProbe:
    """A long-lived client that asks the broker for metadata; recreated when it could not start."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._bootstrap = settings.bootstrap
        self._client: AIOKafkaClient | None = None

    async def ask(self) -> str:
        """Return when a broker answered; '', as Kafka's protocol does not tell a version.

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
        return ""

    async def close(self) -> None:
        """Close the client."""
        if self._client is not None:
            with suppress(KafkaError, OSError):
                await self._client.close()
