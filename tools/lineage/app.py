"""`placar lineage`: reads the jobs from the lineage service and prints them as a tree."""

from datetime import UTC, datetime

import httpx

from chassis.errors import NotDoneError
from chassis.settings import LineageSettings, load
from tools.lineage.tree import tree
from tools.table import console, warn

TIMEOUT_S = 10.0
SETTING = "LINEAGE_URL, MARQUEZ_PORT"


def run() -> int:
    """Print the tree; returns the exit status.

    Raises:
        NotDoneError: the service is unavailable; the message has its address and settings.
    """
    url = load(LineageSettings).url
    try:
        answer = httpx.get(f"{url}/api/v1/jobs", params={"limit": 10_000}, timeout=TIMEOUT_S)
        answer.raise_for_status()
        jobs = answer.json()["jobs"]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        raise NotDoneError(f"lineage service at {url} (settings {SETTING}): {error!r}") from error
    if jobs:
        console().print(tree(jobs, datetime.now(UTC)))
    else:
        warn("there are no lineage events yet")
    return 0
