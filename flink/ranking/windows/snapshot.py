"""A window as text, the way the job keeps it in its state: JSON, so that a later version of the job can read it.

In two parts, since what was published changes each second and is small, while all the totals are large.
"""

import json
from typing import Any

from flink.ranking.windows.top_n import Entry, Total, Window


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def totals(window: Window) -> str:
    """The window's totals as one line of JSON; cents are integers of any size."""
    return _line(window.totals)


def published(window: Window) -> str:
    """What was last published of the window as one line of JSON."""
    return _line({"entries": window.entries, "status": window.status, "revision": window.revision})


def load(kept_totals: str | None, kept_published: str | None) -> Window:
    """The window of which `totals` and `published` wrote these; None where nothing was written yet.

    Raises:
        ValueError | KeyError: not such a text.
    """
    window = Window()
    if kept_totals is not None:
        window.totals = {name: Total(*total) for name, total in json.loads(kept_totals).items()}
    if kept_published is not None:
        kept = json.loads(kept_published)
        window.entries = tuple(Entry(*entry) for entry in kept["entries"])
        window.status, window.revision = kept["status"], kept["revision"]
    return window
