"""The job's configuration, typed, from environment variables."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from contracts.windows import DEFAULT, WindowLength, window_lengths

T = TypeVar("T")

JOB_NAME, SHADOW_NAME = "ranking", "ranking-rebuild"


class ConfigurationError(Exception):
    """A variable has a value that the job cannot use; the message names the variable and the value."""


@dataclass(frozen=True)
class Configuration:
    """Every setting of the job; times in the unit that the field's name ends with.

    state_since_ms: since when (epoch) the state holds every sale, 0 where it has not. shadow: where not empty, the
    job publishes nothing and reads as this consumer group.
    """

    kafka: str
    registry_url: str
    windows: tuple[WindowLength, ...]
    state_ttl_days: int
    state_since_ms: int
    shadow: str
    mini_batch_ms: int
    emit_interval_ms: int
    idle_ms: int

    @property
    def job_name(self) -> str:
        """The job's name in Flink."""
        return SHADOW_NAME if self.shadow else JOB_NAME

    @property
    def group(self) -> str:
        """The consumer group whose offsets show how far the job has read."""
        return self.shadow or JOB_NAME


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise ValueError(f"must be between {low} and {high}")
        return value

    return parse


def _host(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    return text.strip()


def read(environment: Mapping[str, str]) -> Configuration:
    """The configuration that the environment describes; what is not set has the documented default.

    Raises:
        ConfigurationError: a variable has an unusable value.
    """

    def value(name: str, default: str, parse: Callable[[str], T]) -> T:
        text = environment.get(name, default)
        try:
            return parse(text)
        except ValueError as error:
            raise ConfigurationError(f"{name} {text[:60]!r}: {error}") from error

    ttl_days = value("RANKING_STATE_TTL_DAYS", "35", _whole(1, 3650))

    def windows(text: str) -> tuple[WindowLength, ...]:
        lengths = window_lengths(text)
        if any(length.seconds >= ttl_days * 86_400 for length in lengths):
            raise ValueError(f"a window must be shorter than the {ttl_days} days of RANKING_STATE_TTL_DAYS")
        return lengths

    port = _whole(1, 65_535)
    kafka_host, kafka_port = value("KAFKA_HOST", "127.0.0.1", _host), value("KAFKA_PORT", "9092", port)
    registry_host = value("SCHEMA_REGISTRY_HOST", "127.0.0.1", _host)
    registry_port = value("SCHEMA_REGISTRY_PORT", "8085", port)
    return Configuration(
        kafka=f"{kafka_host}:{kafka_port}",
        registry_url=f"http://{registry_host}:{registry_port}/apis/ccompat/v7",
        windows=value("RANKING_WINDOWS", DEFAULT, windows),
        state_ttl_days=ttl_days,
        state_since_ms=value("RANKING_STATE_SINCE_MS", "0", _whole(0, 2**53)),
        shadow=value("RANKING_SHADOW", "", str.strip),
        mini_batch_ms=value("RANKING_MINI_BATCH_MS", "750", _whole(10, 10_000)),
        emit_interval_ms=value("RANKING_EMIT_INTERVAL_MS", "1000", _whole(50, 60_000)),
        idle_ms=value("RANKING_IDLE_S", "60", _whole(1, 86_400)) * 1000,
    )
