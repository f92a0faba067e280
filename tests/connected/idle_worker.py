"""A streams worker that takes records and never finishes one, as a process: `python -m tests.connected.idle_worker`.

It ends with its process. In the process of a test a worker whose stop takes too long would stay in its group.
"""

import asyncio
from typing import Any, cast

from pydantic_settings import SettingsConfigDict

from chassis import stream
from chassis.results import Output
from chassis.stream import Agent, Codecs, StreamSettings
from chassis.unit import Unit, run_unit
from contracts.codec import Decoder


class IdleSettings(StreamSettings):
    """Which group it joins, and the topics of its agent."""

    model_config = SettingsConfigDict(env_prefix="IDLE_WORKER_")
    group: str
    raw: str
    out: str


class _Never:
    """Stands for the decoder: no record is ever decoded."""

    async def decode(self, _: bytes) -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}


async def main(unit: Unit, settings: IdleSettings) -> None:
    """Work until cancelled."""
    agent = Agent(settings.raw, settings.out, lambda record, _: Output(b"", record))
    codecs = Codecs(cast(Decoder, _Never()), lambda _: b"", lambda _: b"")
    await stream.work(Unit(settings.group, unit.log, unit.metrics, unit.readiness), settings, agent, codecs)


if __name__ == "__main__":
    run_unit("idle_worker", IdleSettings, main)
