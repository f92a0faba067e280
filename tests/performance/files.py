"""`task bench:files`: one big file and many small ones through the file poller, on a runtime of its own.

Uploads a CSV file of `--mib` MiB in rows of `--row-bytes` bytes and prints seconds, rows per second, MiB per second and
the poller's peak resident memory (VmHWM of /proc, from its start to the end of the file). Then `--objects` files of one
row: seconds until all are read.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from services.file_poller.transform import HEADER
from tests.connected.conftest import ENVIRONMENT
from tests.connected.sources import bucket, peak_bytes, service
from tests.connected.streams import until
from tests.connected.unit_process import UnitProcess
from tests.runtime import start_runtime

MIB = 1024 * 1024
DEADLINE_S = 3600.0


def content(mib: int, row_bytes: int) -> Iterator[bytes]:
    """The file's bytes, in parts of about a MiB."""
    yield f"{HEADER}\n".encode()
    before, after = "1,Ana,Recife,BR,10.50,", ",2026-02-19T10:00:00Z\n"
    row = before + "x" * max(1, row_bytes - len(before) - len(after)) + after
    part = (row * (MIB // len(row) + 1)).encode()
    for _ in range(mib * MIB // len(part) + 1):
        yield part


def counted(series: Mapping[str, float], metric: str, outcome: str) -> float:
    """The sum of the metric's series of an outcome."""
    label = f'outcome="{outcome}"'
    return sum(value for name, value in series.items() if name.startswith(f"{metric}{{") and label in name)


def files_read(series: Mapping[str, float]) -> float:
    """How many files the poller has read."""
    return counted(series, "placar_files_total", "read")


async def reached(process: UnitProcess, done: Callable[[Mapping[str, float]], bool], what: str) -> float:
    """Seconds until the poller's metrics say so."""
    begun = time.monotonic()

    async def condition() -> bool:
        return done(await process.samples())

    await until(condition, what, DEADLINE_S)
    return time.monotonic() - begun


async def measure(env: Mapping[str, str], folder: Path, mib: int, row_bytes: int, objects: int) -> None:
    """Run both measurements and print them."""
    store = bucket(env)
    await asyncio.to_thread(store.put, "big/a.csv", content(mib, row_bytes))
    size = store.head("big/a.csv")["size"]
    async with service("file_poller", {**env, "FILE_POLLER_PREFIX": "big/"}, folder / "big.log") as process:
        seconds = await reached(process, lambda series: files_read(series) == 1, "the file is read")
        rows = counted(await process.samples(), "placar_records_total", "published")
        print(f"file       {size / MIB:8.0f} MiB  {rows:10.0f} rows  {seconds:7.1f} s")  # noqa: T201
        print(f"rate       {size / MIB / seconds:8.1f} MiB/s  {rows / seconds:8.0f} rows/s")  # noqa: T201
        print(f"peak RSS   {peak_bytes(process) / MIB:8.0f} MiB")  # noqa: T201
    if not objects:
        return
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: store.put(f"many/{n}.csv", f"{HEADER}\n{n},A,B,BR,1,C,x\n".encode()), range(objects)))
    async with service("file_poller", {**env, "FILE_POLLER_PREFIX": "many/"}, folder / "many.log") as process:
        seconds = await reached(process, lambda series: files_read(series) == objects, "all files are read")
        print(f"objects    {objects:8d}      {seconds:10.1f} s  peak RSS {peak_bytes(process) / MIB:.0f} MiB")  # noqa: T201


def main() -> None:
    """Parse, start a runtime, measure."""
    parser = argparse.ArgumentParser(prog="task bench:files --", description=__doc__)
    parser.add_argument("--mib", type=int, default=1024, help="size of the big file")
    parser.add_argument("--row-bytes", type=int, default=1000, help="bytes of one of its rows")
    parser.add_argument("--objects", type=int, default=10_000, help="number of small files; 0: none")
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        start_runtime(Path(folder) / "state", ("contracts", "s3"), ENVIRONMENT) as runtime,
    ):
        asyncio.run(measure(runtime.env, Path(folder), given.mib, given.row_bytes, given.objects))


if __name__ == "__main__":
    main()
