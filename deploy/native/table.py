"""Reads processes.yaml, the table of what the native runtime runs."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field


class Described(BaseModel):
    """A server, step or unit as the table describes it.

    `ports` are its ports by their settings, with their defaults; of these Prometheus scrapes those of `scraped`, under
    the job that is given there. A unit has a `module` instead of command and probe. What has a `profile` runs only
    where that is chosen. The other keys are those of `Process`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    command: str = ""
    module: str = ""
    probe: str = ""
    ports: dict[str, int] = Field(default_factory=dict)
    scraped: dict[str, str] = Field(default_factory=dict)
    needs: tuple[str, ...] = ()
    environment: dict[str, str] = Field(default_factory=dict)
    configuration: tuple[str, ...] = ()
    directory: str = "${ROOT}"
    stop_signal: str = "TERM"
    wave: int = 0
    profile: str = ""


class Table(BaseModel):
    """The whole file; `words` are parts that several commands share, `urls` addresses to open."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    words: dict[str, str]
    servers: dict[str, Described]
    steps: dict[str, Described]
    units: dict[str, Described]
    urls: dict[str, str]

    @property
    def processes(self) -> dict[str, Described]:
        """Servers and units: what has ports and keeps running."""
        return {**self.servers, **self.units}

    @property
    def profiles(self) -> list[str]:
        """The names of the profiles."""
        return sorted({each.profile for each in (*self.processes.values(), *self.steps.values())} - {""})

    def profiles_of(self, names: Collection[str]) -> set[str]:
        """The profiles of these servers and units; other names have none."""
        return {self.processes[name].profile for name in names if name in self.processes} - {""}

    def without(self, profiles: Collection[str]) -> set[str]:
        """The servers and units that do not run where these profiles are chosen."""
        return {name for name, each in self.processes.items() if each.profile not in ("", *profiles)}


TABLE = Table.model_validate(yaml.safe_load(Path(__file__).with_name("processes.yaml").read_text("utf-8")))
CONFIGURATION = sorted(
    {name for each in TABLE.servers.values() for name in each.configuration if not name.startswith("$")}
)
"""The files of deploy/ that go to the same path below the state's conf/, with their ${NAME} filled in."""


def fill(text: str, values: Mapping[str, str]) -> str:
    """A text with its ${NAME} filled in; any other dollar is its own.

    Raises:
        KeyError: a name is not among the values.
    """
    return re.sub(r"\$\{([A-Z][A-Z0-9_]*)\}", lambda match: values[match[1]], text)
