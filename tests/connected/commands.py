"""Commands as a test runs them: in this process, which costs no start, or as a process of their own."""

import asyncio
import io
import json
import logging
import os
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any
from unittest import mock

from tools.__main__ import main

QUIETED = ("aiokafka", "asynch")  # loggers that a command silences in its process


@dataclass(frozen=True)
class Run:
    """How a run of a command ended."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What it printed with --json."""
        return [json.loads(line) for line in self.out.splitlines()]


async def placar(environment: Mapping[str, str], *arguments: str) -> Run:
    """Run a command of `placar` in a thread of this process, with an event loop of its own."""
    out, err = io.StringIO(), io.StringIO()

    def call() -> int:
        with mock.patch.dict(os.environ, environment), redirect_stdout(out), redirect_stderr(err):
            return main(arguments)

    levels = {name: logging.getLogger(name).level for name in QUIETED}
    try:
        status = await asyncio.to_thread(call)
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
    return Run(status, out.getvalue(), err.getvalue())


async def process(module: str, environment: Mapping[str, str], *arguments: str) -> Run:
    """Run `python -m MODULE`."""
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *arguments,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await started.communicate()
    assert started.returncode is not None
    return Run(started.returncode, out.decode(), err.decode())
