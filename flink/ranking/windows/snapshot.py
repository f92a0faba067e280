"""A window as text, the way the job keeps it in its state: JSON, so that a later version of the job can read it."""

import json

from flink.ranking.windows.top_n import Entry, Total, Window


def dump(window: Window) -> str:
    """The window as one line of JSON; cents are integers of any size."""
    return json.dumps(
        {"totals": window.totals, "entries": window.entries, "status": window.status, "revision": window.revision},
        ensure_ascii=False,
        separators=(",", ":"),
    )


def load(text: str) -> Window:
    """The window that `dump` wrote.

    Raises:
        ValueError | KeyError: not such a text.
    """
    kept = json.loads(text)
    return Window(
        totals={name: Total(*total) for name, total in kept["totals"].items()},
        entries=tuple(Entry(*entry) for entry in kept["entries"]),
        status=kept["status"],
        revision=kept["revision"],
    )
