"""Pure: rows of the database as Marquez's API describes them, and the graphs that follow from them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid5

Json = dict[str, Any]
Row = Mapping[str, Any]
VERSIONS = UUID("0a6f0f7e-4f0a-5d59-8f0f-0c52f9a1a9d4")


def instant(at: datetime | None) -> str | None:
    """ISO 8601 with Z."""
    return None if at is None else at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def named(row: Row) -> Json:
    """What a namespace, a job and a dataset have in common."""
    return {"name": row["name"], "createdAt": instant(row["created_at"]), "updatedAt": instant(row["updated_at"])}


def _described(row: Row) -> Json:
    facets = row["facets"]
    return named(row) | {
        "id": {"namespace": row["namespace"], "name": row["name"]},
        "namespace": row["namespace"],
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


def run(row: Row, edges: Sequence[Row]) -> Json:
    """A run with what it read and wrote."""
    begun, ended = row["started_at"], row["ended_at"]

    def touched(direction: str) -> list[Json]:
        return [
            {"datasetVersionId": {"namespace": each["namespace"], "name": each["name"]}, "facets": each["facets"]}
            for each in edges
            if each["direction"] == direction
        ]

    return {
        "id": str(row["id"]),
        "createdAt": instant(row["created_at"]),
        "updatedAt": instant(row["updated_at"]),
        "state": row["state"],
        "startedAt": instant(begun),
        "endedAt": instant(ended),
        "durationMs": round((ended - begun).total_seconds() * 1000) if begun and ended else None,
        "inputDatasetVersions": touched("in"),
        "outputDatasetVersions": touched("out"),
        "facets": row["facets"],
    }


def job(row: Row, edges: Sequence[Row], latest: Json | None) -> Json:
    """A job with its current inputs and outputs, and its newest run."""
    kind = row["facets"].get("jobType", {}).get("processingType", "BATCH")

    def touched(direction: str) -> list[Json]:
        return [{"namespace": e["namespace"], "name": e["name"]} for e in edges if e["direction"] == direction]

    return _described(row) | {
        "type": "STREAM" if kind == "STREAMING" else kind,
        "inputs": touched("in"),
        "outputs": touched("out"),
        "latestRun": latest,
    }


@dataclass
class _Node:
    """A node of a graph, and the ids of its neighbours."""

    kind: str
    data: Json
    before: set[str] = field(default_factory=set)
    after: set[str] = field(default_factory=set)


def _link(nodes: Mapping[str, _Node], origin: str, destination: str) -> None:
    if origin in nodes:
        nodes[origin].after.add(destination)
        nodes[destination].before.add(origin)


def _graph(nodes: Mapping[str, _Node], starts: Sequence[str], steps: int, *, downstream: bool = True) -> Json:
    """The nodes within so many edges of the starts: upstream, and downstream where wanted."""
    wanted = set(starts)
    for way in ("before", "after") if downstream else ("before",):
        seen, edge = set(starts), set(starts)
        for _ in range(steps):
            edge = {other for name in edge for other in getattr(nodes[name], way)} - seen
            seen |= edge
        wanted |= seen
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


def _id(kind: str, each: Json, *names: str) -> str:
    return ":".join((kind, each["namespace"], each["name"], *names))


def lineage(datasets: Sequence[Json], jobs: Sequence[Json], node_id: str, depth: int) -> Json | None:
    """The graph around a node, at most `depth` jobs upstream and downstream; None if there is no such node."""
    nodes = {_id("dataset", each): _Node("DATASET", each) for each in datasets}
    nodes |= {_id("job", each): _Node("JOB", each) for each in jobs}
    for each in jobs:
        for read in each["inputs"]:
            _link(nodes, _id("dataset", read), _id("job", each))
        for written in each["outputs"]:
            _link(nodes, _id("job", each), _id("dataset", written))
    return _graph(nodes, [node_id], 2 * depth) if node_id in nodes else None


def column_lineage(
    datasets: Sequence[Json], jobs: Sequence[Json], node_id: str, depth: int, *, downstream: bool
) -> Json | None:
    """The fields that a dataset, a field (`datasetField:...`) or a job's outputs derive from; None: no such node."""
    nodes: dict[str, _Node] = {}
    of: dict[str, list[str]] = defaultdict(list)
    for each in datasets:
        for declared in each["fields"]:
            name = _id("datasetField", each, declared["name"])
            data = {"namespace": each["namespace"], "dataset": each["name"], "field": declared["name"]}
            data |= {"fieldType": declared["type"], "transformationType": None, "inputFields": []}
            nodes[name] = _Node("DATASET_FIELD", data)
            of[_id("dataset", each)].append(name)
    for each in datasets:
        derived = each["facets"].get("columnLineage", {}).get("fields", {})
        for name, facet in ((_id("datasetField", each, made), facet) for made, facet in derived.items()):
            for read in facet["inputFields"] if name in nodes else ():
                kinds = [one.get("subtype") for one in read.get("transformations") or [{}]]
                nodes[name].data["transformationType"] = facet.get("transformationType") or kinds[0]
                source = {"namespace": read["namespace"], "dataset": read["name"], "field": read["field"]}
                nodes[name].data["inputFields"].append(source)
                _link(nodes, _id("datasetField", read, read["field"]), name)
    for each in jobs:
        of[_id("job", each)] = [name for out in each["outputs"] for name in of[_id("dataset", out)]]
    starts = [node_id] if node_id in nodes else of.get(node_id)
    return None if starts is None else _graph(nodes, starts, depth, downstream=downstream)
