"""Limits per client: requests and sets by token bucket, messages by fixed window, connections by count."""

import time
from collections.abc import Callable

KEPT_CLIENTS = 10_000


class TokenBucket:
    """One token bucket per client: `burst` tokens, refilled with `per_s` tokens a second.

    Of each bucket only the moment is kept at which it is full again; one that is full is as good as none.
    """

    def __init__(self, per_s: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._token_s = 1 / per_s
        self._whole_s = burst / per_s
        self._clock = clock
        self._full_at: dict[str, float] = {}

    def take(self, client: str, cost: int = 1) -> float:
        """Take `cost` tokens and return 0 where there is at least one; otherwise the seconds until there is one.

        What costs more than there are is allowed once; the client then waits until its debt is repaid.
        """
        now = self._clock()
        full_at = max(self._full_at.get(client, now), now)
        short = full_at + self._token_s - now - self._whole_s
        if short > 1e-9:
            return short
        if len(self._full_at) >= KEPT_CLIENTS:
            self._forget(now)
        self._full_at[client] = full_at + cost * self._token_s
        return 0.0

    def _forget(self, now: float) -> None:
        """Forget the full buckets; the fullest too, where too many clients are left."""
        emptiest = sorted(((at, client) for client, at in self._full_at.items() if at > now), reverse=True)
        self._full_at = {client: at for at, client in emptiest[: KEPT_CLIENTS // 2]}


class FixedWindowLimiter:
    """At most `limit` events in each window of `window_s` seconds; a window begins with its first event."""

    def __init__(self, limit: int, window_s: float) -> None:
        self._limit = limit
        self._window_s = window_s
        self._since = float("-inf")
        self._used = 0

    def take(self, now: float) -> bool:
        """Whether one more event is allowed at `now` (seconds of a clock that never goes back)."""
        if now - self._since >= self._window_s:
            self._since, self._used = now, 0
        self._used += 1
        return self._used <= self._limit


class ConnectionLimiter:
    """Open connections: at most `total`, and `per_address` from one client address."""

    def __init__(self, total: int, per_address: int) -> None:
        self._total = total
        self._per_address = per_address
        self._open: dict[str, int] = {}

    def acquire(self, address: str) -> str:
        """Count one more connection and return ''; or return why it may not be opened."""
        if sum(self._open.values()) >= self._total:
            return f"{self._total} clients are connected, and no more may (API_LIVE_CONNECTIONS)"
        if self._open.get(address, 0) >= self._per_address:
            return f"{self._per_address} connections of this address are open (API_LIVE_CONNECTIONS_PER_ADDRESS)"
        self._open[address] = self._open.get(address, 0) + 1
        return ""

    def release(self, address: str) -> None:
        """One of the address's connections is closed."""
        self._open[address] -= 1
        if self._open[address] == 0:
            del self._open[address]
