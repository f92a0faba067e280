"""The job as one archive for Flink, and the version that its sources, schemas and configuration make."""

import ast
import hashlib
import io
import runpy
import zipfile
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from contracts.windows import window_length
from services.flink_watcher.record import replace_file
from services.flink_watcher.transform import Version

SOURCES = (
    "flink/__init__.py",
    "flink/ranking/**/*.py",
    "contracts/__init__.py",
    "contracts/rankings.py",
    "contracts/time.py",
    "contracts/windows.py",
    "contracts/topics/*/value.avsc",
)
RANKINGS = "contracts/rankings.py"
STATE_SOURCES = ("contracts/windows.py", "flink/ranking/sql.py", "flink/ranking/windows/snapshot.py")
"""What decides the meaning of the job's state, with what is ranked: with other ones, old state gives wrong totals."""

CONFIGURATION = ("KAFKA_HOST", "KAFKA_PORT", "SCHEMA_REGISTRY_HOST", "SCHEMA_REGISTRY_PORT")
CONFIGURATION_PREFIX = "RANKING_"
STATE_CONFIGURATION = ("RANKING_WINDOWS", "RANKING_STATE_TTL_DAYS")
SHADOW, STATE_SINCE = "RANKING_SHADOW", "RANKING_STATE_SINCE_MS"
"""What the watcher itself sets for each submission; no part of the version."""

SAME_DATE = (1980, 1, 1, 0, 0, 0)


def sources(root: Path) -> list[Path]:
    """The files of the job below the project's root."""
    return sorted(path for pattern in SOURCES for path in root.glob(pattern))


@cache
def _program(text: str) -> str:
    """What of a module runs: no comments and no layout."""
    return ast.dump(ast.parse(text))


def _content(path: Path) -> bytes:
    text = path.read_text("utf-8")
    return (_program(text) if path.suffix == ".py" else text).encode()


def _ranked(root: Path) -> str:
    """What is ranked, of the table in the file: it may be newer than the one that this process has imported.

    Titles, paths, topics and tables are no part of it.
    """
    module = runpy.run_path(str(root / RANKINGS))
    windows = module["ranking_windows"]([window_length("1h")])
    return repr([(window.name, window.ranking.column, window.ranking.per_country) for window in windows])


def _digest(root: Path, files: Iterable[Path], environment: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + _content(path) + b"\0")
    for name in sorted(environment):
        digest.update(f"{name}={environment[name]}\0".encode())
    return digest.hexdigest()[:16]


def _configures(name: str) -> bool:
    return name in CONFIGURATION or (name.startswith(CONFIGURATION_PREFIX) and name not in (SHADOW, STATE_SINCE))


def configuration(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of the job."""
    return {name: value for name, value in environment.items() if _configures(name)}


def configured(environment: Mapping[str, str], instead: Mapping[str, str]) -> dict[str, str]:
    """The environment with `instead` as the variables of the job."""
    return {**{name: value for name, value in environment.items() if not _configures(name)}, **instead}


def version(root: Path, environment: Mapping[str, str]) -> Version:
    """The version of the job that `root` and `environment` describe."""
    settings = configuration(environment)
    meaning = {name: value for name, value in settings.items() if name in STATE_CONFIGURATION}
    meaning[RANKINGS] = _ranked(root)
    return Version(
        code=_digest(root, sources(root), settings),
        state=_digest(root, (root / name for name in STATE_SOURCES), meaning),
    )


def write_only(root: Path, archive: Path) -> None:
    """Write the archive that Flink's Python processes import the job from, and remove those of other versions."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as bundle:
        for path in sources(root):
            bundle.writestr(zipfile.ZipInfo(path.relative_to(root).as_posix(), SAME_DATE), path.read_bytes())
    replace_file(archive, content.getvalue())
    for other in archive.parent.glob("ranking-*.zip"):
        if other != archive:
            other.unlink()
