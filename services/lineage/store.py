"""What is kept in Postgres: events as they came, and what follows from them."""

import hashlib
import json
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from chassis.settings import LINEAGE_DATABASE, PostgresSettings
from services.lineage.models import Dataset, DatasetEvent, Event, Facets, JobEvent, RunEvent

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]

SCHEMA = Path(__file__).with_name("schema.sql")
NO_RUN = uuid.UUID(int=0)
VERSIONS = uuid.UUID("0a6f0f7e-4f0a-5d59-8f0f-0c52f9a1a9d4")
ONE_WRITER = 7_215_001  # advisory lock: events are taken one after the other, so that no two wait for each other
CONNECTIONS = 4
COMMAND_S = 10.0
AWAY = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.exceptions.OperatorInterventionError,  # it is being stopped
    asyncpg.InterfaceError,
)
STATES: Mapping[str, str] = {
    "START": "RUNNING",  # as Marquez: a run that has started is running
    "RUNNING": "RUNNING",
    "COMPLETE": "COMPLETED",
    "FAIL": "FAILED",
    "ABORT": "ABORTED",
}
ENDED = ("COMPLETED", "FAILED", "ABORTED")

Row = Mapping[str, Any]

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
# the edges of each job's newest run that has any, else those of no run
_CURRENT_EDGES = """
SELECT e.* FROM edges e JOIN (
    SELECT DISTINCT ON (e.job_namespace, e.job_name) e.job_namespace, e.job_name, e.run_id
    FROM (SELECT DISTINCT job_namespace, job_name, run_id FROM edges) e LEFT JOIN runs r ON r.id = e.run_id
    ORDER BY e.job_namespace, e.job_name, r.created_at DESC NULLS LAST
) newest USING (job_namespace, job_name, run_id)
ORDER BY e.namespace, e.name
"""
_LATEST_RUNS = """
SELECT DISTINCT ON (job_namespace, job_name) * FROM runs ORDER BY job_namespace, job_name, created_at DESC
"""


async def _json_columns(connection: "Connection") -> None:
    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")


def _facets(facets: Facets) -> dict[str, Any]:
    """Facets to merge; one that is deleted becomes null, which the merge takes away."""
    return {name: None if facet is None or facet.get("_deleted") else dict(facet) for name, facet in facets.items()}


class Store:
    """The database. Every method raises OSError, asyncpg.PostgresError or asyncpg.InterfaceError where it is down."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def prepare(self) -> None:
        """Make the tables; safe to repeat."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", ONE_WRITER)
            await connection.execute(SCHEMA.read_text("utf-8"))

    async def take(self, event: Event, body: Mapping[str, Any]) -> bool:
        """Keep an event and what follows from it; returns False where it was kept before."""
        digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()
        namespace = event.dataset.namespace if isinstance(event, DatasetEvent) else event.job.namespace
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", ONE_WRITER)
            new = await connection.fetchval(
                "INSERT INTO events (digest, event_time, namespace, body) VALUES ($1, $2, $3, $4)"
                " ON CONFLICT (digest) DO NOTHING RETURNING id",
                digest,
                event.eventTime,
                namespace,
                dict(body),
            )
            if new is not None:
                await self._enter(connection, event)
        return new is not None

    async def _enter(self, connection: "Connection", event: Event) -> None:
        at = event.eventTime
        if isinstance(event, DatasetEvent):
            await self._dataset(connection, event.dataset, at, None, written=False)
            return
        job = event.job
        await self._namespace(connection, job.namespace, at)
        await connection.execute(
            "INSERT INTO jobs AS j (namespace, name, facets, created_at, updated_at)"
            " VALUES ($1, $2, jsonb_strip_nulls($3::jsonb), $4, $4) ON CONFLICT (namespace, name) DO UPDATE SET"
            " facets = jsonb_strip_nulls(j.facets || $3::jsonb),"
            " updated_at = greatest(j.updated_at, excluded.updated_at)",
            job.namespace,
            job.name,
            _facets(job.facets),
            at,
        )
        run_id = NO_RUN
        if isinstance(event, RunEvent):
            run_id = event.run.runId
            state = STATES.get(event.eventType)
            facets = _facets(event.run.facets)
            await connection.execute(_RUN, run_id, job.namespace, job.name, state, facets, at, list(ENDED))
        await self._edges(connection, event, run_id)

    async def _edges(self, connection: "Connection", event: JobEvent, run_id: uuid.UUID) -> None:
        told = [(d, "in", d.inputFacets) for d in event.inputs] + [(d, "out", d.outputFacets) for d in event.outputs]
        for dataset, direction, facets in told:
            of_run = None if run_id == NO_RUN else run_id
            await self._dataset(connection, dataset, event.eventTime, of_run, written=direction == "out")
            await connection.execute(
                "INSERT INTO edges AS e VALUES ($1, $2, $3, $4, $5, $6, jsonb_strip_nulls($7::jsonb))"
                " ON CONFLICT (job_namespace, job_name, run_id, direction, namespace, name) DO UPDATE SET"
                " facets = jsonb_strip_nulls(e.facets || $7::jsonb)",
                event.job.namespace,
                event.job.name,
                run_id,
                direction,
                dataset.namespace,
                dataset.name,
                _facets(facets),
            )

    @staticmethod
    async def _namespace(connection: "Connection", name: str, at: datetime) -> None:
        await connection.execute(
            "INSERT INTO namespaces AS n (name, created_at, updated_at) VALUES ($1, $2, $2)"
            " ON CONFLICT (name) DO UPDATE SET updated_at = greatest(n.updated_at, excluded.updated_at)",
            name,
            at,
        )

    async def _dataset(
        self, connection: "Connection", dataset: Dataset, at: datetime, run: uuid.UUID | None, *, written: bool
    ) -> None:
        await self._namespace(connection, dataset.namespace, at)
        facets = _facets(dataset.facets)
        await connection.execute(_DATASET, dataset.namespace, dataset.name, facets, at, written)
        fields = (facets.get("schema") or {}).get("fields")
        if fields is None:
            return
        shape = json.dumps([dataset.namespace, dataset.name, fields], sort_keys=True)
        version = uuid.uuid5(VERSIONS, shape)
        await connection.execute(
            "INSERT INTO dataset_versions VALUES ($1, $2, $3, jsonb_strip_nulls($4::jsonb), $5, $6)"
            " ON CONFLICT DO NOTHING",
            version,
            dataset.namespace,
            dataset.name,
            facets,
            run,
            at,
        )
        await connection.execute(
            "UPDATE datasets SET current_version = $3 WHERE namespace = $1 AND name = $2",
            dataset.namespace,
            dataset.name,
            version,
        )

    async def alive(self) -> None:
        """Ask the database for nothing."""
        await self._pool.execute("SELECT 1")

    async def forget(self, before: datetime) -> int:
        """Delete events of before that moment, and runs that ended before it, except the newest of each job."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", ONE_WRITER)
            old = await connection.fetch(
                "SELECT id FROM runs WHERE ended_at < $1 AND id NOT IN"  # noqa: S608
                f" (SELECT id FROM ({_LATEST_RUNS}) newest)",
                before,
            )
            ids = [row["id"] for row in old]
            await connection.execute("DELETE FROM edges WHERE run_id = ANY($1)", ids)
            await connection.execute("DELETE FROM runs WHERE id = ANY($1)", ids)
            gone = await connection.execute("DELETE FROM events WHERE event_time < $1", before)
        return int(gone.rpartition(" ")[2]) + len(ids)

    async def name_namespace(self, name: str, owner: str, description: str | None, now: datetime) -> None:
        """Make a namespace, or give it an owner and a description."""
        await self._pool.execute(
            "INSERT INTO namespaces VALUES ($1, $2, $3, $4, $4) ON CONFLICT (name) DO UPDATE SET"
            " owner_name = excluded.owner_name, description = excluded.description, updated_at = excluded.updated_at",
            name,
            owner,
            description,
            now,
        )

    async def rows(self, query: str, *values: Any) -> Sequence[Row]:
        """The rows of one of the queries of this unit."""
        return [dict(row) for row in await self._pool.fetch(query, *values)]

    async def namespaces(self) -> Sequence[Row]:
        """Every namespace."""
        return await self.rows("SELECT * FROM namespaces ORDER BY name")

    async def datasets(self) -> Sequence[Row]:
        """Every dataset."""
        return await self.rows("SELECT * FROM datasets ORDER BY namespace, name")

    async def versions(self, namespace: str, name: str) -> Sequence[Row]:
        """The versions of a dataset, the newest first."""
        return await self.rows(
            "SELECT * FROM dataset_versions WHERE namespace = $1 AND name = $2 ORDER BY created_at DESC",
            namespace,
            name,
        )

    async def jobs(self) -> Sequence[Row]:
        """Every job."""
        return await self.rows("SELECT * FROM jobs ORDER BY namespace, name")

    async def current_edges(self) -> Sequence[Row]:
        """What each job reads and writes by its newest run."""
        return await self.rows(_CURRENT_EDGES)

    async def edges_of(self, runs: Sequence[uuid.UUID]) -> Sequence[Row]:
        """What these runs read and wrote, with the newest facets of that."""
        return await self.rows("SELECT * FROM edges WHERE run_id = ANY($1) ORDER BY namespace, name", list(runs))

    async def latest_runs(self) -> Sequence[Row]:
        """The newest run of each job."""
        return await self.rows(_LATEST_RUNS)

    async def runs(self, namespace: str, name: str) -> Sequence[Row]:
        """The runs of a job, the newest first."""
        return await self.rows(
            "SELECT * FROM runs WHERE job_namespace = $1 AND job_name = $2 ORDER BY created_at DESC", namespace, name
        )

    async def run(self, run_id: uuid.UUID) -> Row | None:
        """One run."""
        return next(iter(await self.rows("SELECT * FROM runs WHERE id = $1", run_id)), None)

    async def events(
        self, after: datetime, before: datetime, *, newest_first: bool, limit: int, offset: int
    ) -> tuple[Sequence[Row], int]:
        """A page of the events of a period, and how many there are in all."""
        order = "DESC" if newest_first else "ASC"
        found = await self.rows(
            "SELECT body FROM events WHERE event_time >= $1 AND event_time < $2"  # noqa: S608
            f" ORDER BY event_time {order}, id {order} LIMIT $3 OFFSET $4",
            after,
            before,
            limit,
            offset,
        )
        counting = "SELECT count(*) AS n FROM events WHERE event_time >= $1 AND event_time < $2"
        total = await self.rows(counting, after, before)
        return found, total[0]["n"]


@asynccontextmanager
async def opened(settings: PostgresSettings) -> AsyncIterator[Store]:
    """The store, its tables made, while the context lasts.

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
        max_inactive_connection_lifetime=timedelta(minutes=5).total_seconds(),
        init=_json_columns,
    ) as pool:
        store = Store(pool)
        await store.prepare()
        yield store
