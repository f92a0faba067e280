"""The book of sales that the legacy system keeps: a SQLite file, one row per sale, the newest version of each."""

import sqlite3
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

SCHEMA = """
create table if not exists sales (
    sale_id text unique, salesman_name text, city text, country text, amount text, product text, sale_date integer,
    recorded_at integer not null
);
create index if not exists sales_recorded_at on sales (recorded_at);
"""
INSERT = "insert or replace into sales values (?, ?, ?, ?, ?, ?, ?, ?)"
SELECT = (
    "select sale_id, salesman_name, city, country, amount, product, sale_date from sales"
    " where recorded_at >= ? order by recorded_at, rowid"
)
PRUNE = (
    "delete from sales where rowid in (select rowid from sales order by recorded_at desc, rowid desc limit -1 offset ?)"
)


@dataclass(frozen=True)
class BookedSale:
    """A sale as it was given: any value may be missing; `amount` is its exact text, `sale_date` in ms since 1970."""

    sale_id: str | None
    salesman_name: str | None
    city: str | None
    country: str | None
    amount: str | None
    product: str | None
    sale_date: int | None


class Book:
    """The book; safe to use from several threads.

    `clock` gives ms since 1970. The time of recording never goes back, and what was answered is complete: a sale that
    is recorded later has a time that is not before the answer's.
    """

    def __init__(self, path: Path, keep: int, clock: Callable[[], int]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._keep, self._clock = keep, clock
        self._database = sqlite3.connect(path, check_same_thread=False)
        self._database.executescript("pragma journal_mode = wal; pragma synchronous = full;" + SCHEMA)
        self._newest: int = self._database.execute("select coalesce(max(recorded_at), 0) from sales").fetchone()[0]

    def record(self, sales: Iterable[BookedSale]) -> int:
        """Write sales down durably and return their number; a sale of a known id replaces it."""
        with self._lock, self._database:
            self._newest = max(self._newest, self._clock())
            rows = [
                (s.sale_id, s.salesman_name, s.city, s.country, s.amount, s.product, s.sale_date, self._newest)
                for s in sales
            ]
            self._database.executemany(INSERT, rows)
            self._database.execute(PRUNE, (self._keep,))
        return len(rows)

    def since(self, timestamp: int) -> list[BookedSale]:
        """The sales recorded at or after `timestamp` (ms since 1970), oldest first."""
        # SQLite's integers end at 64 bits; what is beyond is a time in which nothing was recorded yet, or all was
        bounded = min(max(timestamp, 0), 2**63 - 1)
        with self._lock:
            return [BookedSale(*row) for row in self._database.execute(SELECT, (bounded,))]

    def size(self) -> int:
        """How many sales the book holds."""
        with self._lock:
            count: int = self._database.execute("select count(*) from sales").fetchone()[0]
        return count

    def close(self) -> None:
        """Close the file; the book cannot be used afterwards."""
        with self._lock:
            self._database.close()
