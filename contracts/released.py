"""Released schemas: `contracts/topics/<topic>/released/<number>.avsc`, kept for ever and never edited.

`python -m contracts.released` releases each topic's `value.avsc` that differs from its newest release. The digests in
`contracts/released.lock` tell when a released file was edited or removed.
"""

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from contracts.catalogue import TOPICS_FOLDER, Topic, catalogue
from contracts.compatibility import incompatible

LOCK = TOPICS_FOLDER.parent / "released.lock"


class ReleaseError(Exception):
    """A schema may not follow those that were released, or a released one is not what it was; the message says why."""


def releases(topic: Topic) -> dict[int, Path]:
    """The released schemas of a topic by number, oldest first."""
    paths = (TOPICS_FOLDER / topic.contract / "released").glob("*.avsc")
    return dict(sorted((int(path.stem), path) for path in paths))


def schema(path: Path) -> Mapping[str, Any]:
    """A released schema."""
    read: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
    return read


def _line(path: Path) -> str:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"{digest}  {path.relative_to(TOPICS_FOLDER).as_posix()}"


def edited(lock: str, paths: list[Path]) -> list[str]:
    """The released files that are not what the lock says: edited, removed, or not in it."""
    locked = set(lock.splitlines())
    return sorted({line.partition("  ")[2] for line in locked ^ {_line(path) for path in paths}})


def problems(topic: Topic, newer: Mapping[str, Any], released: Mapping[int, Mapping[str, Any]]) -> list[str]:
    """Why `newer` may not follow the released schemas under the topic's compatibility rule; empty where it may."""
    return [
        f"{topic.name} ({topic.compatibility}) against release {number}: {why}"
        for number, older in released.items()
        for why in incompatible(topic.compatibility, newer, older)
    ]


def release(topic: Topic) -> Path | None:
    """Keep the topic's schema as its next release; None where it is the newest release already.

    Raises:
        ReleaseError: it is incompatible with a released one.
    """
    kept = {number: schema(path) for number, path in releases(topic).items()}
    newest = max(kept, default=0)
    if newest and kept[newest] == topic.avro:
        return None
    if why := problems(topic, topic.avro, kept):
        raise ReleaseError("; ".join(why))
    path = TOPICS_FOLDER / topic.contract / "released" / f"{newest + 1}.avsc"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes((TOPICS_FOLDER / topic.contract / "value.avsc").read_bytes())
    return path


def main() -> int:
    """Release what changed, print it, and return the exit status."""
    topics = catalogue().values()
    before = LOCK.read_text("utf-8") if LOCK.exists() else ""
    if wrong := edited(before, [path for topic in topics for path in releases(topic).values()]):
        sys.stderr.write(f"not released: restore from the history what is released: {', '.join(wrong)}\n")
        return 1
    for topic in topics:
        try:
            path = release(topic)
        except ReleaseError as error:
            sys.stderr.write(f"not released: {error}\n")
            return 1
        if path is not None:
            with LOCK.open("a", encoding="utf-8") as lock:
                lock.write(f"{_line(path)}\n")
            sys.stdout.write(f"{topic.name}: release {path.stem}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
