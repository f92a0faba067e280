"""What the runtime starts: processes that the supervisor keeps running, and steps that end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from deploy.native.probes import Probe
from deploy.native.settings import ROOT


@dataclass(frozen=True)
class Process:
    """Something that the supervisor keeps running; ready when `probe` no longer raises.

    `configuration` names files below the state's conf/ (absolute paths are allowed): a changed one restarts the process
    at the next `up`. `wave` orders the shutdown: 0 stops first.
    """

    name: str
    command: Sequence[str]
    probe: Probe
    needs: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    configuration: Sequence[str] = ()
    directory: str = str(ROOT)
    stop_signal: str = "TERM"
    wave: int = 0


@dataclass(frozen=True)
class Step:
    """A command that runs once to its end; done when it exits with 0."""

    name: str
    command: Sequence[str]
    needs: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


Node = Process | Step
