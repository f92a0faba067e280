"""The service `files` with a gate before its decoder, as a process: `python -m tests.connected.gated_files`.

While the gate's file exists no record passes, so that a batch is in flight for as long as a test wants.
"""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, cast

from pydantic_settings import SettingsConfigDict

from chassis import dead_letters, stream
from chassis.registry import Registry
from chassis.stream import METRICS, Codecs
from chassis.unit import Unit, run_unit
from contracts.codec import Decoder
from streams.files.agents import agent
from streams.files.settings import Settings
from tests.connected.streams import until
from tests.connected.unit_process import UnitProcess, unit_process

LONGEST_S = 600.0


class GatedSettings(Settings):
    """Those of the unit, and the file that holds its records."""

    model_config = SettingsConfigDict(env_prefix="GATED_FILES_")
    gate: Path


class _Gate:
    """Blocks the decoder while the file exists."""

    def __init__(self, decoder: Decoder, gate: Path) -> None:
        self._decoder = decoder
        self._gate = gate

    async def _is_open(self) -> bool:
        return not self._gate.exists()

    async def decode(self, payload: bytes) -> dict[str, Any]:
        await until(self._is_open, f"{self._gate} is gone", LONGEST_S)
        return await self._decoder.decode(payload)


def gated(servers: Mapping[str, str], folder: Path) -> AbstractAsyncContextManager[UnitProcess]:
    """A ready worker that finishes no record while there is a file `gate` in the folder."""
    environment = {**servers, "GATED_FILES_GATE": str(folder / "gate")}
    return unit_process("tests.connected.gated_files", environment, folder / "gated.log", wait=True)


async def main(unit: Unit, settings: GatedSettings) -> None:
    """Work in the group `files` until cancelled."""
    files = agent(settings)
    registry = Registry(unit, settings.registry)
    codecs = Codecs(
        cast(Decoder, _Gate(registry.decoder(files.consumes), settings.gate)),
        await registry.encoder(files.publishes),
        await registry.encoder(dead_letters.TOPIC),
    )
    await stream.work(Unit("files", unit.log, unit.metrics, unit.readiness), settings, files, codecs)


if __name__ == "__main__":
    run_unit("gated_files", GatedSettings, main, metrics=METRICS)
