"""The lineage graph as a tree."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from rich.text import Text
from rich.tree import Tree

SILENT = timedelta(minutes=3)
COLOURS = {"RUNNING": "green", "COMPLETED": "bright_black", "FAILED": "red", "ABORTED": "red"}

Job = Mapping[str, Any]
"""A job as the lineage service describes it."""
Key = tuple[str, str]


def key(named: Mapping[str, Any]) -> Key:
    """Namespace and name of a job or dataset."""
    return named["namespace"], named["name"]


def state(job: Job, now: datetime) -> Text:
    """A job's newest run: its state, how long it has been silent, the rows of its newest event, its error."""
    run = job["latestRun"]
    if run is None:
        return Text("no run")
    parts = [run["state"]]
    silent = now - datetime.fromisoformat(run["updatedAt"])
    if run["state"] == "RUNNING" and silent > SILENT:
        parts.append(f"silent for {silent // timedelta(minutes=1)} min")
    counts = [each["facets"].get("outputStatistics", {}).get("rowCount") for each in run["outputDatasetVersions"]]
    if any(rows is not None for rows in counts):
        parts.append(f"{sum(rows or 0 for rows in counts)} rows in its newest event")
    error = run["facets"].get("errorMessage", {}).get("message")
    if error:
        parts.append(str(error).splitlines()[0][:100])
    return Text(", ".join(parts), COLOURS.get(run["state"], ""))


def tree(jobs: Sequence[Job], now: datetime) -> Tree:
    """Every dataset that no job writes, and below it its readers and what they write; each branch is shown once."""
    readers: Mapping[Key, list[Job]] = defaultdict(list)
    for job in jobs:
        for each in job["inputs"]:
            readers[key(each)].append(job)
    written = {key(each) for job in jobs for each in job["outputs"]}
    shown_datasets: set[Key] = set()
    shown_jobs: set[Key] = set()

    def add_dataset(branch: Tree, dataset: Key) -> None:
        label = Text.assemble((dataset[1], "bold"), ("  " + dataset[0], "dim"))
        if dataset in shown_datasets and readers[dataset]:
            branch.add(label.append("  (above)", "dim"))
            return
        shown_datasets.add(dataset)
        below = branch.add(label)
        for job in readers[dataset]:
            add_job(below, job)

    def add_job(branch: Tree, job: Job) -> None:
        label = Text.assemble("▶ ", (job["name"], "cyan"), "  ")
        if key(job) in shown_jobs:
            branch.add(label.append("(above)", "dim"))
            return
        shown_jobs.add(key(job))
        below = branch.add(label.append(state(job, now)))
        for dataset in sorted(map(key, job["outputs"]), key=lambda output: -len(readers[output])):
            add_dataset(below, dataset)

    root = Tree(Text("lineage"), hide_root=True)
    for dataset in sorted(set(readers) - written):
        add_dataset(root, dataset)
    for job in [*(job for job in jobs if not job["inputs"]), *jobs]:  # jobs without inputs, then cycles
        if key(job) not in shown_jobs:
            add_job(root, job)
    return root
