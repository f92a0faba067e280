"""A unit as a process of its own: `python -m <module>`, on an operations port of its own."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp

from chassis.metrics import IN_FLIGHT
from tests.connected.streams import free_port, until
from tests.runtime import ROOT


class UnitProcess:
    """Started, queried and ended by a test; its log is appended to `log`."""

    def __init__(self, module: str, environment: Mapping[str, str], log: Path, root: Path = ROOT) -> None:
        self.ops_port = free_port()
        self._module = module
        self._log = log
        self._root = root
        self._environment = {
            **os.environ,
            "LINEAGE_TRANSPORT": "off",
            **environment,
            f"{module.rpartition('.')[2].upper()}_OPS_PORT": str(self.ops_port),
        }
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", self._module, cwd=self._root, env=self._environment, stderr=log
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def logged(self) -> str:
        """What it has logged."""
        return self._log.read_text("utf-8")

    async def _get(self, path: str) -> str:
        url = f"http://127.0.0.1:{self.ops_port}{path}"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return await answer.text()

    async def missing(self) -> dict[str, str] | None:
        """What it is not ready for and why; None while it does not answer."""
        try:
            answer = await self._get("/readyz")
        except aiohttp.ClientError:
            return None
        missing: dict[str, str] = json.loads(answer)["missing"]
        return missing

    async def ready(self) -> bool:
        """Whether it waits for nothing."""
        return await self.missing() == {}

    async def metrics(self) -> str:
        """Its metrics as Prometheus reads them."""
        return await self._get("/metrics")

    async def samples(self) -> dict[str, float]:
        """Its metrics' values by series."""
        lines = (await self.metrics()).splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[:1] not in "#")}

    async def works(self) -> bool:
        """Whether it has records in flight."""
        return any(value > 0 for name, value in (await self.samples()).items() if name.startswith(IN_FLIGHT.name))

    async def exit_status(self) -> int:
        """Its exit status, once it has ended."""
        assert self._process is not None
        async with asyncio.timeout(30):
            return await self._process.wait()

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal and return the exit status."""
        assert self._process is not None
        with suppress(ProcessLookupError):
            self._process.send_signal(number)
        return await self.exit_status()


@asynccontextmanager
async def unit_process(
    module: str, environment: Mapping[str, str], log: Path, *, wait: bool = False, root: Path = ROOT
) -> AsyncIterator[UnitProcess]:
    """A started unit of the source tree `root`, with `wait` a ready one; stopped at the end if it still runs."""
    process = UnitProcess(module, environment, log, root)
    await process.start()
    try:
        if wait:
            await until(process.ready, f"{module} is ready, its log: {log}")
        yield process
    finally:
        await process.end()
