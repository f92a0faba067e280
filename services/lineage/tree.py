"""`python -m services.lineage.tree` prints the graph as a tree from its sources: 0 printed, 2 the service is down."""

import argparse
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import httpx
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from chassis.command import NotDoneError, command, run
from chassis.settings import LineageSettings, load
from services.lineage.transform import Json

NAME = "lineage"
TIMEOUT_S = 10.0
SILENT = timedelta(minutes=3)
PLAIN_WIDTH = 160
SETTING = "LINEAGE_URL, MARQUEZ_PORT"
COLOURS = {"RUNNING": "green", "COMPLETED": "bright_black", "FAILED": "red", "ABORTED": "red"}

Key = tuple[str, str]


def state(job: Json, now: datetime) -> Text:
    """A job's newest run in words: its state, since when it said nothing, and the rows in its last word."""
    run = job["latestRun"]
    if run is None:
        return Text("no run")
    said = [run["state"]]
    quiet = now - datetime.fromisoformat(run["updatedAt"])
    if run["state"] == "RUNNING" and quiet > SILENT:
        said.append(f"silent for {quiet // timedelta(minutes=1)} min")
    told = [each["facets"].get("outputStatistics", {}).get("rowCount") for each in run["outputDatasetVersions"]]
    if any(rows is not None for rows in told):
        said.append(f"{sum(rows or 0 for rows in told)} rows in its last word")
    why = run["facets"].get("errorMessage", {}).get("message")
    if why:
        said.append(str(why).splitlines()[0][:100])
    return Text(", ".join(said), COLOURS.get(run["state"], ""))


def tree(jobs: Sequence[Json], now: datetime) -> Tree:
    """Every dataset that no job writes, and below it what becomes of it; what has branches is shown with them once."""
    readers: Mapping[Key, list[Json]] = defaultdict(list)
    written: set[Key] = set()
    for job in jobs:
        for each in job["inputs"]:
            readers[each["namespace"], each["name"]].append(job)
        written |= {(each["namespace"], each["name"]) for each in job["outputs"]}
    shown: set[Key] = set()
    told: set[Key] = set()

    def label(dataset: Key) -> Text:
        return Text.assemble((dataset[1], "bold"), ("  " + dataset[0], "dim"))

    def add(branch: Tree, dataset: Key) -> None:
        if dataset in shown and readers[dataset]:
            branch.add(label(dataset).append("  (above)", "dim"))
            return
        shown.add(dataset)
        below = branch.add(label(dataset))
        for job in readers[dataset]:
            tell(below, job)

    def tell(branch: Tree, job: Json) -> None:
        name = Text.assemble("▶ ", (job["name"], "cyan"), "  ")
        if (job["namespace"], job["name"]) in told:
            branch.add(name.append("(above)", "dim"))
            return
        told.add((job["namespace"], job["name"]))
        below = branch.add(name.append(state(job, now)))
        outputs = [(each["namespace"], each["name"]) for each in job["outputs"]]
        for each in sorted(outputs, key=lambda output: -len(readers[output])):
            add(below, each)

    root = Tree(Text("lineage"), hide_root=True)
    sources = sorted(set(readers) - written)
    for dataset in sources:
        add(root, dataset)
    for job in [*(job for job in jobs if not job["inputs"]), *jobs]:  # what reads nothing, then circles
        if (job["namespace"], job["name"]) not in told:
            tell(root, job)
    return root


@command(NAME)
def main(given: Sequence[str] | None = None) -> int:
    """Print the tree; returns the exit status."""
    argparse.ArgumentParser(prog="lineage", description="The lineage graph as a tree.").parse_args(given)
    url = load(LineageSettings).url
    try:
        answer = httpx.get(f"{url}/api/v1/jobs", params={"limit": 10_000}, timeout=TIMEOUT_S)
        answer.raise_for_status()
        jobs = answer.json()["jobs"]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        raise NotDoneError(f"lineage service at {url} (settings {SETTING}): {error!r}") from error
    if not jobs:
        sys.stderr.write("no event has come yet\n")
        return 0
    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    Console(file=sys.stdout, width=width, highlight=False).print(tree(jobs, datetime.now(UTC)))
    return 0


if __name__ == "__main__":
    run(main)
