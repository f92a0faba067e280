"""The lineage database: events as they came, and the jobs, runs, datasets and edges that follow from them."""

import hashlib
import json
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from chassis.settings import LINEAGE_DATABASE, PostgresSettings
from services.lineage.models import Dataset, DatasetEvent, Event, Facets, RunEvent

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]

SCHEMA = Path(__file__).with_name("schema.sql")
NO_RUN = uuid.UUID(int=0)
ONE_WRITER = 7_215_001  # advisory lock: events are stored one after the other, so that no two deadlock
CONNECTIONS = 4
COMMAND_S = 10.0
UNAVAILABLE = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.exceptions.OperatorInterventionError,  # it is being stopped
    asyncpg.InterfaceError,
)
STATES: Mapping[str, str] = {
    "START": "RUNNING",  # as in Marquez
    "RUNNING": "RUNNING",
    "COMPLETE": "COMPLETED",
    "FAIL": "FAILED",
    "ABORT": "ABORTED",
}
ENDED = ("COMPLETED", "FAILED", "ABORTED")

Row = Mapping[str, Any]

_JOB = """
INSERT INTO jobs AS j VALUES ($1, $2, jsonb_strip_nulls($3::jsonb), $4, $4)
ON CONFLICT (namespace, name) DO UPDATE SET
    facets = jsonb_strip_nulls(j.facets || $3::jsonb),
    updated_at = greatest(j.updated_at, excluded.updated_at)
"""
_RUN = """
INSERT INTO runs AS r (id, job_namespace, job_name, state, facets, created_at, updated_at, started_at, ended_at)
VALUES ($1, $2, $3, coalesce($4::text, 'NEW'), jsonb_strip_nulls($5::jsonb), $6::timestamptz, $6,
        CASE WHEN $4 IS NOT NULL THEN $6 END, CASE WHEN $4 = ANY($7::text[]) THEN $6 END)
ON CONFLICT (id) DO UPDATE SET
    state = CASE WHEN $4 IS NOT NULL AND excluded.updated_at >= r.updated_at THEN excluded.state ELSE r.state END,
    ended_at = CASE WHEN $4 IS NOT NULL AND excluded.updated_at >= r.updated_at THEN excluded.ended_at
                    ELSE r.ended_at END,
    started_at = least(r.started_at, excluded.started_at),
    created_at = least(r.created_at, excluded.created_at),
    updated_at = greatest(r.updated_at, excluded.updated_at),
    facets = jsonb_strip_nulls(r.facets || $5::jsonb)
"""
_DATASET = """
INSERT INTO datasets AS d (namespace, name, facets, created_at, updated_at, modified_at)
VALUES ($1, $2, jsonb_strip_nulls($3::jsonb), $4::timestamptz, $4, CASE WHEN $5::boolean THEN $4 END)
ON CONFLICT (namespace, name) DO UPDATE SET
    facets = CASE WHEN excluded.updated_at >= d.updated_at THEN jsonb_strip_nulls(d.facets || $3::jsonb)
                  ELSE excluded.facets || d.facets END,
    updated_at = greatest(d.updated_at, excluded.updated_at),
    modified_at = greatest(d.modified_at, excluded.modified_at)
"""
_EDGE = """
INSERT INTO edges AS e VALUES ($1, $2, $3, $4, $5, $6, jsonb_strip_nulls($7::jsonb))
ON CONFLICT (job_namespace, job_name, run_id, direction, namespace, name) DO UPDATE SET
    facets = jsonb_strip_nulls(e.facets || $7::jsonb)
"""
JOBS = "SELECT * FROM jobs ORDER BY namespace, name"
DATASET = "SELECT * FROM datasets WHERE namespace = $1 AND name = $2"
# the edges of each job's newest run that has any, else those of no run
CURRENT_EDGES = """
SELECT e.* FROM edges e JOIN (
    SELECT DISTINCT ON (e.job_namespace, e.job_name) e.job_namespace, e.job_name, e.run_id
    FROM (SELECT DISTINCT job_namespace, job_name, run_id FROM edges) e LEFT JOIN runs r ON r.id = e.run_id
    ORDER BY e.job_namespace, e.job_name, r.created_at DESC NULLS LAST
) newest USING (job_namespace, job_name, run_id)
ORDER BY e.namespace, e.name
"""
LATEST_RUNS = """
SELECT DISTINCT ON (job_namespace, job_name) * FROM runs ORDER BY job_namespace, job_name, created_at DESC
"""


async def _json_columns(connection: "Connection") -> None:
    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")


def _facets(facets: Facets) -> dict[str, Any]:
    """Facets to merge; a deleted one becomes null, which the merge removes."""
    return {name: None if facet is None or facet.get("_deleted") else dict(facet) for name, facet in facets.items()}


async def _store_dataset(connection: "Connection", dataset: Dataset, at: datetime, *, written: bool) -> None:
    await connection.execute(_DATASET, dataset.namespace, dataset.name, _facets(dataset.facets), at, written)


async def _store(connection: "Connection", event: Event) -> None:
    at = event.eventTime
    if isinstance(event, DatasetEvent):
        await _store_dataset(connection, event.dataset, at, written=False)
        return
    job = (event.job.namespace, event.job.name)
    await connection.execute(_JOB, *job, _facets(event.job.facets), at)
    run = NO_RUN
    if isinstance(event, RunEvent):
        run, state = event.run.runId, STATES.get(event.eventType)
        await connection.execute(_RUN, run, *job, state, _facets(event.run.facets), at, ENDED)
    for direction, datasets in (("in", event.inputs), ("out", event.outputs)):
        for each in datasets:
            await _store_dataset(connection, each, at, written=direction == "out")
            facets = _facets(each.inputFacets if direction == "in" else each.outputFacets)
            await connection.execute(_EDGE, *job, run, direction, each.namespace, each.name, facets)


class Store:
    """The database. Every method raises OSError, asyncpg.PostgresError or asyncpg.InterfaceError where it is down."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator["Connection"]:
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", ONE_WRITER)
            yield connection

    async def prepare(self) -> None:
        """Create the tables; safe to repeat."""
        async with self._writing() as connection:
            await connection.execute(SCHEMA.read_text("utf-8"))

    async def add(self, event: Event, body: Mapping[str, Any]) -> bool:
        """Store an event and what follows from it; returns False if it was stored before."""
        digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()
        namespace = (event.dataset if isinstance(event, DatasetEvent) else event.job).namespace
        async with self._writing() as connection:
            new = await connection.fetchval(
                "INSERT INTO events (digest, event_time, namespace, body) VALUES ($1, $2, $3, $4)"
                " ON CONFLICT (digest) DO NOTHING RETURNING id",
                digest,
                event.eventTime,
                namespace,
                dict(body),
            )
            if new is not None:
                await _store(connection, event)
        return new is not None

    async def delete(self, before: datetime) -> int:
        """Delete older events, and runs that ended before then, except the newest of each job; returns how many."""
        old = f"SELECT id FROM runs WHERE ended_at < $1 AND id NOT IN (SELECT id FROM ({LATEST_RUNS}) newest)"  # noqa: S608 - a constant
        async with self._writing() as connection:
            runs = [row["id"] for row in await connection.fetch(old, before)]
            await connection.execute("DELETE FROM edges WHERE run_id = ANY($1)", runs)
            await connection.execute("DELETE FROM runs WHERE id = ANY($1)", runs)
            events = await connection.execute("DELETE FROM events WHERE event_time < $1", before)
        return int(events.rpartition(" ")[2]) + len(runs)

    async def rows(self, query: str, *values: Any) -> Sequence[Row]:
        """The rows of one of this module's queries."""
        return [dict(row) for row in await self._pool.fetch(query, *values)]


@asynccontextmanager
async def opened(settings: PostgresSettings) -> AsyncIterator[Store]:
    """The store, with its tables, while the context lasts.

    Raises:
        OSError | asyncpg.PostgresError | asyncpg.InterfaceError: the server is unavailable or rejects us.
    """
    async with asyncpg.create_pool(
        host=settings.host,
        port=settings.port,
        database=LINEAGE_DATABASE,
        user=settings.user,
        password=settings.password.get_secret_value(),
        ssl=False,
        min_size=1,
        max_size=CONNECTIONS,
        timeout=COMMAND_S,
        command_timeout=COMMAND_S,
        init=_json_columns,
    ) as pool:
        store = Store(pool)
        await store.prepare()
        yield store
