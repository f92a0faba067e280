"""The job's configuration, typed, from environment variables."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from flink.ranking.windows.length import WindowLength, window_length

T = TypeVar("T")


class ConfigurationError(Exception):
    """A variable has a value that the job cannot use; the message names the variable and the value."""


@dataclass(frozen=True)
class Configuration:
    """Everything the job is told; times in the unit that the field's name ends with."""

    kafka: str
    registry_url: str
    windows: tuple[WindowLength, ...]
    state_ttl_days: int
    mini_batch_ms: int
    emit_interval_ms: int
    idle_ms: int


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


def _windows(text: str) -> tuple[WindowLength, ...]:
    lengths = tuple(window_length(part.strip()) for part in text.split(","))
    if len({length.label for length in lengths}) < len(lengths):
        raise ValueError("a window length occurs twice")
    return lengths


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

    port = _whole(1, 65_535)
    kafka_host, kafka_port = value("KAFKA_HOST", "127.0.0.1", _host), value("KAFKA_PORT", "9092", port)
    registry_host = value("SCHEMA_REGISTRY_HOST", "127.0.0.1", _host)
    registry_port = value("SCHEMA_REGISTRY_PORT", "8085", port)
    return Configuration(
        kafka=f"{kafka_host}:{kafka_port}",
        registry_url=f"http://{registry_host}:{registry_port}/apis/ccompat/v7",
        windows=value("RANKING_WINDOWS", "1h", _windows),
        state_ttl_days=value("RANKING_STATE_TTL_DAYS", "35", _whole(1, 3650)),
        mini_batch_ms=value("RANKING_MINI_BATCH_MS", "500", _whole(10, 10_000)),
        emit_interval_ms=value("RANKING_EMIT_INTERVAL_MS", "1000", _whole(50, 60_000)),
        idle_ms=value("RANKING_IDLE_S", "60", _whole(1, 86_400)) * 1000,
    )
