"""Pure: the rows of the store as Marquez's API shows them, and the graphs that follow from them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid5

from services.lineage.store import NO_RUN, VERSIONS, Row

Json = dict[str, Any]
Key = tuple[str, str]


def instant(at: datetime | None) -> str | None:
    """ISO 8601 with Z."""
    return None if at is None else at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def namespace(row: Row) -> Json:
    """A namespace."""
    return {
        "name": row["name"],
        "createdAt": instant(row["created_at"]),
        "updatedAt": instant(row["updated_at"]),
        "ownerName": row["owner_name"],
        "description": row["description"],
        "isHidden": False,
    }


def source(row: Row) -> Json:
    """The source that the namespace of a dataset stands for."""
    kind = row["name"].partition("://")[0] if "://" in row["name"] else "unknown"
    return {
        "type": kind.upper(),
        "name": row["name"],
        "createdAt": instant(row["created_at"]),
        "updatedAt": instant(row["updated_at"]),
        "connectionUrl": row["name"],
        "description": None,
    }


def _fields(facets: Mapping[str, Any], above: str = "", fields: Any = None) -> Iterable[Json]:
    """The fields of a schema facet, those of nested records too, by their path."""
    for each in (facets.get("schema", {}).get("fields") or []) if fields is None else fields:
        name = f"{above}{each['name']}"
        yield {"name": name, "type": each.get("type"), "tags": [], "description": each.get("description")}
        yield from _fields(facets, f"{name}.", each.get("fields") or [])


def _dataset_type(namespace_: str) -> str:
    return "STREAM" if namespace_.startswith("kafka://") else "DB_TABLE"


def _described(facets: Mapping[str, Any]) -> str | None:
    said = facets.get("documentation", {}).get("description")
    return None if said is None else str(said)


def dataset(row: Row) -> Json:
    """A dataset."""
    facets = row["facets"]
    return {
        "id": {"namespace": row["namespace"], "name": row["name"]},
        "type": _dataset_type(row["namespace"]),
        "name": row["name"],
        "physicalName": row["name"],
        "createdAt": instant(row["created_at"]),
        "updatedAt": instant(row["updated_at"]),
        "namespace": row["namespace"],
        "sourceName": row["namespace"],
        "fields": list(_fields(facets)),
        "tags": [],
        "lastModifiedAt": instant(row["modified_at"]),
        "lastLifecycleState": None,
        "description": _described(facets),
        "currentVersion": None if row["current_version"] is None else str(row["current_version"]),
        "columnLineage": None,
        "facets": facets,
        "deleted": False,
    }


def version(row: Row, created_by: Json | None) -> Json:
    """A version of a dataset; the run that it was first told by, where there was one."""
    return {
        "id": {"namespace": row["namespace"], "name": row["name"], "version": str(row["version"])},
        "type": _dataset_type(row["namespace"]),
        "name": row["name"],
        "physicalName": row["name"],
        "createdAt": instant(row["created_at"]),
        "version": str(row["version"]),
        "namespace": row["namespace"],
        "sourceName": row["namespace"],
        "fields": list(_fields(row["facets"])),
        "tags": [],
        "lifecycleState": None,
        "description": _described(row["facets"]),
        "createdByRun": created_by,
        "facets": row["facets"],
    }


def _job_version(namespace_: str, name: str, edges: Iterable[Row]) -> str:
    shape = sorted((edge["direction"], edge["namespace"], edge["name"]) for edge in edges)
    return str(uuid5(VERSIONS, repr((namespace_, name, shape))))


def run(row: Row, edges: Sequence[Row], versions: Mapping[Key, UUID | None]) -> Json:
    """A run with what it read and wrote."""
    begun, ended = row["started_at"], row["ended_at"]

    def touched(direction: str) -> list[Json]:
        return [
            {
                "datasetVersionId": {
                    "namespace": edge["namespace"],
                    "name": edge["name"],
                    "version": str(versions.get((edge["namespace"], edge["name"])) or NO_RUN),
                },
                "facets": edge["facets"],
            }
            for edge in edges
            if edge["direction"] == direction
        ]

    return {
        "id": str(row["id"]),
        "createdAt": instant(row["created_at"]),
        "updatedAt": instant(row["updated_at"]),
        "nominalStartTime": None,
        "nominalEndTime": None,
        "state": row["state"],
        "startedAt": instant(begun),
        "endedAt": instant(ended),
        "durationMs": round((ended - begun).total_seconds() * 1000) if begun and ended else None,
        "args": {},
        "jobVersion": {
            "namespace": row["job_namespace"],
            "name": row["job_name"],
            "version": _job_version(row["job_namespace"], row["job_name"], edges),
        },
        "inputDatasetVersions": touched("in"),
        "outputDatasetVersions": touched("out"),
        "facets": row["facets"],
    }


def job(row: Row, edges: Sequence[Row], latest: Json | None) -> Json:
    """A job, with what it reads and writes now, and its newest run."""
    facets = row["facets"]
    kind = facets.get("jobType", {}).get("processingType", "BATCH")
    named = {
        direction: [{"namespace": e["namespace"], "name": e["name"]} for e in edges if e["direction"] == direction]
        for direction in ("in", "out")
    }
    return {
        "id": {"namespace": row["namespace"], "name": row["name"]},
        "type": {"STREAMING": "STREAM"}.get(kind, kind),
        "name": row["name"],
        "simpleName": row["name"],
        "parentJobName": None,
        "createdAt": instant(row["created_at"]),
        "updatedAt": instant(row["updated_at"]),
        "namespace": row["namespace"],
        "inputs": named["in"],
        "outputs": named["out"],
        "location": facets.get("sourceCodeLocation", {}).get("url"),
        "description": _described(facets),
        "latestRun": latest,
        "latestRuns": None if latest is None else [latest],
        "tags": [],
        "facets": facets,
        "currentVersion": _job_version(row["namespace"], row["name"], edges),
    }


@dataclass
class _Node:
    """A node of a graph: what it is, and the ids of its neighbours."""

    kind: str
    data: Json
    before: set[str] = field(default_factory=set)
    after: set[str] = field(default_factory=set)


def _reach(nodes: Mapping[str, _Node], starts: Iterable[str], steps: int, *, upward: bool, downward: bool) -> set[str]:
    """The nodes within so many edges of the starts, each way apart: what the data came from, and where it went."""
    found = set(starts)
    ways = [way for way, wanted in (("before", upward), ("after", downward)) if wanted]
    for way in ways:
        seen, edge = set(starts), set(starts)
        for _ in range(steps):
            edge = {other for name in edge for other in getattr(nodes[name], way)} - seen
            seen |= edge
        found |= seen
    return found


def _shown(nodes: Mapping[str, _Node], wanted: set[str]) -> Json:
    return {
        "graph": [
            {
                "id": name,
                "type": nodes[name].kind,
                "data": nodes[name].data,
                "inEdges": [{"origin": o, "destination": name} for o in sorted(nodes[name].before & wanted)],
                "outEdges": [{"origin": name, "destination": o} for o in sorted(nodes[name].after & wanted)],
            }
            for name in sorted(wanted)
        ]
    }


def _id(kind: str, *names: str) -> str:
    return ":".join((kind, *names))


def lineage(datasets: Sequence[Json], jobs: Sequence[Json], node_id: str, depth: int) -> Json | None:
    """The graph around a node, at most `depth` jobs away upstream and downstream; None where there is no such node."""
    nodes = {_id("dataset", each["namespace"], each["name"]): _Node("DATASET", each) for each in datasets}
    for each in jobs:
        name = _id("job", each["namespace"], each["name"])
        nodes[name] = _Node("JOB", each)
        for read in each["inputs"]:
            other = _id("dataset", read["namespace"], read["name"])
            nodes[name].before.add(other)
            nodes[other].after.add(name)
        for written in each["outputs"]:
            other = _id("dataset", written["namespace"], written["name"])
            nodes[name].after.add(other)
            nodes[other].before.add(name)
    if node_id not in nodes:
        return None
    return _shown(nodes, _reach(nodes, [node_id], 2 * depth, upward=True, downward=True))


def column_lineage(
    datasets: Sequence[Json], jobs: Sequence[Json], node_id: str, depth: int, *, downstream: bool
) -> Json | None:
    """The fields that a dataset, a field (`datasetField:...`) or a job's outputs are made from; None: no such node."""
    nodes: dict[str, _Node] = {}
    of: dict[str, list[str]] = defaultdict(list)
    for each in datasets:
        version_ = each["currentVersion"]
        for declared in each["fields"]:
            name = _id("datasetField", each["namespace"], each["name"], declared["name"])
            data = {
                "namespace": each["namespace"],
                "dataset": each["name"],
                "datasetVersion": version_,
                "field": declared["name"],
                "fieldType": declared["type"],
                "transformationDescription": None,
                "transformationType": None,
                "inputFields": [],
            }
            nodes[name] = _Node("DATASET_FIELD", data)
            of[_id("dataset", each["namespace"], each["name"])].append(name)
    for each in datasets:
        for made, how in each["facets"].get("columnLineage", {}).get("fields", {}).items():
            name = _id("datasetField", each["namespace"], each["name"], made)
            if name not in nodes:
                continue
            for read in how["inputFields"]:
                kinds = [one.get("subtype") for one in read.get("transformations") or [{}]]
                nodes[name].data["transformationType"] = how.get("transformationType") or kinds[0]
                nodes[name].data["inputFields"].append(
                    {"namespace": read["namespace"], "dataset": read["name"], "field": read["field"]}
                )
                origin = _id("datasetField", read["namespace"], read["name"], read["field"])
                if origin in nodes:
                    nodes[name].before.add(origin)
                    nodes[origin].after.add(name)
    for each in jobs:
        of[_id("job", each["namespace"], each["name"])] = [
            name for out in each["outputs"] for name in of[_id("dataset", out["namespace"], out["name"])]
        ]
    starts = [node_id] if node_id in nodes else of.get(node_id)
    if starts is None:
        return None
    return _shown(nodes, _reach(nodes, starts, depth, upward=True, downward=downstream))
