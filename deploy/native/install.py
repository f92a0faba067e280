"""`install`: system packages, Python environments and Java parts; fast and silent where nothing is missing."""

import shutil
import subprocess
from pathlib import Path

from deploy.native import jars, packages, state
from deploy.native.packages import InstallError
from deploy.native.settings import ROOT, NativeSettings


def python_environment(venv: Path, lock: Path, what: str) -> bool:
    """A Python environment of exactly what its lock names; returns whether it was recreated.

    Raises:
        InstallError: uv is missing or ended with an error.
    """
    stamp = venv / "lock"
    if stamp.is_file() and stamp.read_bytes() == lock.read_bytes():
        return False
    uv = shutil.which("uv", path=f"{venv.parent / 'tools' / 'bin'}:{packages.SEARCH_PATH}")
    if uv is None:
        raise InstallError("uv is missing: run ./taskw instead of task, or install uv")
    print(f"{what} ...", flush=True)
    for command in (
        [uv, "venv", "--quiet", "--allow-existing", "--python", "3.11", str(venv)],
        [uv, "pip", "sync", "--require-hashes", "--python", str(venv / "bin" / "python"), str(lock)],
    ):
        if subprocess.run(command, check=False).returncode != 0:
            raise InstallError(f"{' '.join(command)} failed; check the network and repeat")
    shutil.copyfile(lock, stamp)
    return True


def _flink_environment(home: Path) -> bool:
    """The environment of the ranking job and of Flink itself; returns whether it was recreated."""
    what = "Flink and its Python environment (about 250 MB to download, 830 MB on disk)"
    return python_environment(home / "flink-venv", ROOT / "flink" / "requirements.lock", what)


def _flink_libraries(home: Path) -> None:
    """A folder of links to Flink's own jars and our connectors, so that the wheel stays untouched."""
    flink = home / "flink-venv" / "lib" / "python3.11" / "site-packages" / "pyflink"
    wanted = [*flink.glob("lib/*.jar"), *flink.glob("opt/flink-python-*.jar"), *(home / "jars" / "flink").glob("*.jar")]
    folder = home / "flink-lib"
    if folder.is_dir() and {link.readlink() for link in folder.iterdir()} == set(wanted):
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for jar in wanted:
        (folder / jar.name).symlink_to(jar)


def install(settings: NativeSettings, *, tests: bool = False) -> None:
    """Install what is missing, with `tests` also what only they need; safe to repeat.

    Raises:
        InstallError: with what is missing and what to do.
    """
    home = settings.home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    with state.locked(home, "install", wait=True):
        _install(home, tests=tests)


def _install(home: Path, *, tests: bool) -> None:
    (home / state.MARKER).write_text(state.TEXT, "utf-8")
    changed = [packages.ensure(home / "programs.verified"), _flink_environment(home), jars.ensure(home)]
    if tests:
        changed.append(packages.ensure(home / "programs.tests.verified", packages.FOR_TESTS))
    _flink_libraries(home)
    if any(changed):
        print("everything is installed", flush=True)


if __name__ == "__main__":  # what a type check of the ranking job needs, and no server
    try:
        _flink_environment(NativeSettings().home.resolve())
    except InstallError as error:
        raise SystemExit(str(error)) from None
