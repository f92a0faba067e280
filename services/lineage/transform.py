"""Pure: rows of the database as Marquez's API describes them."""

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid5

Json = dict[str, Any]
Row = Mapping[str, Any]
VERSIONS = UUID("0a6f0f7e-4f0a-5d59-8f0f-0c52f9a1a9d4")


def instant(at: datetime | None) -> str | None:
    """ISO 8601 with Z."""
    return None if at is None else at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _described(row: Row) -> Json:
    """What a job and a dataset have in common."""
    facets = row["facets"]
    return {
        "id": {"namespace": row["namespace"], "name": row["name"]},
        "namespace": row["namespace"],
        "name": row["name"],
        "createdAt": instant(row["created_at"]),
        "updatedAt": instant(row["updated_at"]),
        "description": facets.get("documentation", {}).get("description"),
        "tags": [],
        "facets": facets,
    }


def _version(*shape: Any) -> str:
    """The same for the same shape."""
    return str(uuid5(VERSIONS, repr(shape)))


def _fields(fields: Iterable[Json], above: str = "") -> Iterable[Json]:
    """The fields of a schema facet, including those of nested records, by their path."""
    for each in fields:
        name = f"{above}{each['name']}"
        yield {"name": name, "type": each.get("type"), "tags": [], "description": each.get("description")}
        yield from _fields(each.get("fields") or [], f"{name}.")


def dataset(row: Row) -> Json:
    """A dataset; its version follows from its schema."""
    schema = row["facets"].get("schema", {}).get("fields") or []
    return _described(row) | {
        "type": "STREAM" if row["namespace"].startswith("kafka://") else "DB_TABLE",
        "physicalName": row["name"],
        "sourceName": row["namespace"],
        "fields": list(_fields(schema)),
        "lastModifiedAt": instant(row["modified_at"]),
        "currentVersion": _version(row["namespace"], row["name"], schema),
    }


def _run(row: Row, edges: Iterable[Row]) -> Json:
    """A run with what it read and wrote."""
    begun, ended = row["started_at"], row["ended_at"]
    touched: dict[str, list[Json]] = {"in": [], "out": []}
    for edge in edges:
        version = {"namespace": edge["namespace"], "name": edge["name"]}
        touched[edge["direction"]].append({"datasetVersionId": version, "facets": edge["facets"]})
    return {
        "id": str(row["id"]),
        "createdAt": instant(row["created_at"]),
        "updatedAt": instant(row["updated_at"]),
        "state": row["state"],
        "startedAt": instant(begun),
        "endedAt": instant(ended),
        "durationMs": round((ended - begun).total_seconds() * 1000) if begun and ended else None,
        "inputDatasetVersions": touched["in"],
        "outputDatasetVersions": touched["out"],
        "facets": row["facets"],
    }


def job(row: Row, edges: Collection[Row], latest: Row | None) -> Json:
    """A job with its current inputs and outputs, and its newest run; `edges` may be those of a run before."""
    kind = row["facets"].get("jobType", {}).get("processingType", "BATCH")
    touched: dict[str, list[Json]] = {"in": [], "out": []}
    for edge in edges:
        touched[edge["direction"]].append({"namespace": edge["namespace"], "name": edge["name"]})
    return _described(row) | {
        "type": "STREAM" if kind == "STREAMING" else kind,
        "inputs": touched["in"],
        "outputs": touched["out"],
        "latestRun": None if latest is None else _run(latest, [e for e in edges if e["run_id"] == latest["id"]]),
    }
