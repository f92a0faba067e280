"""The Java parts of the runtime: fetched by Maven, each verified against the committed lock of names and sha256."""

import hashlib
import shutil
import subprocess
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.native.packages import InstallError

POM = Path(__file__).parent / "maven" / "pom.xml"
LOCK = Path(__file__).parent / "jars.lock"
PROFILES = ("servers", "converter")
STAMP = ".verified"
REPORT_INTERVAL_S = 5.0
CHUNK = 1 << 20
CONVERTER = "io.apicurio.registry.utils.converter.AvroConverter"
CONVERTER_FOLDER = "plugins/apicurio-converter"
CONVERTER_MANIFEST = f"{CONVERTER_FOLDER}/services.jar"
JAVA_SOURCES = Path(__file__).parents[1] / "connect" / "java"
JAVA_CLASSES = f"{CONVERTER_FOLDER}/placar-connect.jar"


@dataclass(frozen=True)
class Locked:
    """What a file must be: its size in bytes and the sha256 of its content."""

    size: int
    sha256: str


def read_lock(text: str) -> dict[str, Locked]:
    """The lock's lines `sha256 size path` by path; `#` begins a comment."""
    lines = (line.split(maxsplit=2) for line in text.splitlines() if line and not line.startswith("#"))
    return {path: Locked(int(size), sha256) for sha256, size, path in lines}


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != STAMP:
            yield path.relative_to(folder).as_posix(), path


def write_lock(folder: Path) -> str:
    """The lock that describes the folder as it is; for a change of versions."""
    lines = [f"{_digest(path)} {path.stat().st_size} {name}" for name, path in _files(folder)]
    return "\n".join(["# Every Java part: sha256, bytes, path. Written by `python -m deploy.native lock`.", *lines, ""])


def wrong(folder: Path, lock: Mapping[str, Locked], *, contents: bool) -> list[str]:
    """The files that are missing, differ from the lock, or are not in it; by size only unless `contents`."""
    present = dict(_files(folder)) if folder.is_dir() else {}
    bad = [name for name in present if name not in lock]
    for name, must in lock.items():
        path = present.get(name)
        if path is None or path.stat().st_size != must.size or (contents and _digest(path) != must.sha256):
            bad.append(name)
    return sorted(bad)


def _stamped(folder: Path, lock: str) -> bool:
    stamp = folder / STAMP
    return stamp.is_file() and stamp.read_text("utf-8") == hashlib.sha256(lock.encode()).hexdigest()


def _declare_converter(folder: Path) -> None:
    """Add the manifest that the converter's jars lack: with it Connect finds plugins without reading every class."""
    with zipfile.ZipFile(
        folder / CONVERTER_MANIFEST, "w"
    ) as jar:  # ZipInfo's fixed date makes the same bytes each time
        jar.writestr(zipfile.ZipInfo("META-INF/services/org.apache.kafka.connect.storage.Converter"), CONVERTER + "\n")


def _compile(folder: Path, work: Path) -> None:
    """Compile our own Java classes beside the converter, into a jar of the same bytes each time.

    Raises:
        InstallError: the compiler rejects them.
    """
    shutil.rmtree(work, ignore_errors=True)
    jars = [*(folder / CONVERTER_FOLDER).glob("*.jar"), *(folder / "kafka").glob("*.jar")]
    compiler = next((folder / "compiler").glob("ecj-*.jar"))
    run = subprocess.run(
        ["java", "-jar", compiler, "-17", "-proc:none", "-cp", ":".join(map(str, jars)), "-d", work, JAVA_SOURCES],
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode != 0:
        raise InstallError(f"{JAVA_SOURCES.name} does not compile:\n{run.stdout}{run.stderr}")
    with zipfile.ZipFile(folder / JAVA_CLASSES, "w") as jar:
        for path in sorted(work.rglob("*.class")):
            jar.writestr(zipfile.ZipInfo(path.relative_to(work).as_posix()), path.read_bytes())


def _fetch(folder: Path, cache: Path) -> None:
    """Let Maven fill the folder, and report progress every few seconds.

    Raises:
        InstallError: Maven ended with an error.
    """
    # markers of an earlier unpacking would make Maven skip it silently
    shutil.rmtree(cache / "work", ignore_errors=True)
    for profile in PROFILES:
        command = ["mvn", "-B", "-f", str(POM), f"-P{profile}", f"-Dmaven.repo.local={cache / 'repository'}"]
        command += [f"-Djars.dir={folder}", f"-Dwork.dir={cache / 'work'}", "package"]
        _run_maven(command, profile)
    _declare_converter(folder)
    _compile(folder, cache / "classes")


def _run_maven(command: list[str], profile: str) -> None:
    begun = reported = time.monotonic()
    files, last = 0, [""]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as maven:
        for line in maven.stdout or ():
            files += "Downloaded from" in line
            last = [*last, line.rstrip()][-8:]
            if time.monotonic() - reported >= REPORT_INTERVAL_S:
                reported = time.monotonic()
                print(f"  {profile}: {files} files downloaded ({reported - begun:.0f} s)", flush=True)
    if maven.returncode != 0:
        what = "\n".join(text for text in last if "ERROR" in text) or "\n".join(last)
        raise InstallError(f"Maven could not fetch the Java parts ({profile}); check the network and repeat:\n{what}")


def ensure(home: Path) -> bool:
    """Make `home`/jars hold exactly what the lock lists; returns whether anything had to be fetched.

    What is missing or broken is removed and fetched again, with an empty repository where a second try is needed.

    Raises:
        InstallError: it is still not right after the second try.
    """
    folder, cache, text = home / "jars", home / "cache" / "maven", LOCK.read_text("utf-8")
    lock = read_lock(text)
    if _stamped(folder, text) and not wrong(folder, lock, contents=False):
        return False
    bad = wrong(folder, lock, contents=True)
    fetched = bool(bad)
    for attempt in (1, 2):
        if not bad:
            break
        size = sum(lock[name].size for name in bad if name in lock) / 1e6
        print(f"Java parts: {len(bad)} of {len(lock)} files to fetch, {size:.0f} MB ...", flush=True)
        for name in bad:
            (folder / name).unlink(missing_ok=True)
        if attempt == 2:
            shutil.rmtree(cache, ignore_errors=True)
        _fetch(folder, cache)
        bad = wrong(folder, lock, contents=True)
    if bad:
        names = ", ".join(bad[:5])
        raise InstallError(
            f"{len(bad)} Java parts differ from {LOCK.name} after fetching them twice: {names}; repeat later"
        )
    (folder / STAMP).write_text(hashlib.sha256(text.encode()).hexdigest(), "utf-8")
    shutil.rmtree(cache, ignore_errors=True)  # all is in the folder now
    return fetched
