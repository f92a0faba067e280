"""Submission through Flink's own command line, which runs the job's Python in the job's own environment."""

import asyncio
import os
import re
from collections.abc import Mapping
from pathlib import Path

from services.flink_watcher.rest import CODE, STATE
from services.flink_watcher.settings import WatcherSettings
from services.flink_watcher.transform import NotDoneError, Version

_JOB_ID = re.compile(r"JobID ([0-9a-f]{32})")
_PREFIX = "ranking job: "
_WRONG_SETTING = f"{_PREFIX}wrong setting: "
_NOISE = ("WARNING:", "\tat ", "\t... ", "Job has been submitted")


class SubmissionError(NotDoneError):
    """The command line did not submit; the message is the end of its output."""


class WrongSettingError(Exception):
    """The job rejects its configuration, so trying again is no use; the message names the variable."""


def command(settings: WatcherSettings, archive: Path, version: Version, restore: str | None) -> list[str]:
    """The command that submits the job."""
    return [
        str(settings.flink_home / "bin" / "flink"),
        "run",
        "--detached",
        *("--jobmanager", f"{settings.flink.host}:{settings.flink.port}"),
        *(("--fromSavepoint", restore) if restore else ()),
        f"-Dpipeline.global-job-parameters={CODE}:{version.code},{STATE}:{version.state}",
        *("--pyFiles", str(archive)),
        *("--pyModule", "flink.ranking.job"),
    ]


def summary(output: str) -> str:
    """The job's own message, or else the last useful lines of what the command line printed."""
    lines = [line.strip() for line in output.splitlines() if line.strip() and not line.startswith(_NOISE)]
    messages = [line.removeprefix(_PREFIX) for line in lines if line.startswith(_PREFIX)]
    if messages:
        return messages[-1]
    return " | ".join(lines[-6:])[-1500:] or "it printed nothing"


async def submit(
    settings: WatcherSettings, archive: Path, version: Version, restore: str | None, environment: Mapping[str, str]
) -> str:
    """Submit the job and return its id.

    Raises:
        SubmissionError: the command failed or did not end in time.
        WrongSettingError: the job rejects its configuration.
    """
    environment = {
        **environment,
        "FLINK_HOME": str(settings.flink_home),
        "FLINK_ENV_JAVA_OPTS_CLI": settings.client_java_options,
    }
    line = command(settings, archive, version, restore)
    try:
        process = await asyncio.create_subprocess_exec(
            *line,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            close_fds=False,  # it holds the record: when we are killed it goes on, and nobody may submit beside it
        )
    except OSError as error:
        raise SubmissionError(f"{line[0]} (settings FLINK_HOME, PLACAR_HOME): {error}") from error
    try:
        async with asyncio.timeout(settings.submit_timeout_s):
            output, _ = await process.communicate()
    except TimeoutError:
        raise SubmissionError(f"no end after {settings.submit_timeout_s:g} s") from None
    finally:
        if process.returncode is None:
            # The whole group: the command line starts a Python process of its own.
            os.killpg(process.pid, 9)
            await process.wait()
    text = output.decode("utf-8", "replace")
    submitted = _JOB_ID.search(text)
    if submitted is None and _WRONG_SETTING in text:
        raise WrongSettingError(summary(text))
    if submitted is None:
        raise SubmissionError(f"exit status {process.returncode}: {summary(text)}")
    return submitted[1]
