"""Settings of the native runtime: folders, ports and accounts."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings

from chassis.settings import (
    ClickHouseSettings,
    ConnectSettings,
    KafkaSettings,
    Name,
    Port,
    PostgresSettings,
    RankingSettings,
    S3Settings,
)
from deploy.native.state import PROFILES
from deploy.native.table import TABLE

ROOT = Path(__file__).resolve().parents[2]

PORTS: Mapping[str, tuple[int, str]] = {
    setting: (port, name) for name, described in TABLE.processes.items() for setting, port in described.ports.items()
}
"""Setting -> its default, and the process that listens there."""


def names(text: str) -> list[str]:
    """What a list names, separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def known_profiles(text: str) -> str:
    """A list of profiles that are all in the table.

    Raises:
        ValueError: one is not; the message names those there are.
    """
    for name in names(text):
        if name not in TABLE.profiles:
            raise ValueError(f"there is no profile {name[:60]!r}; there are {', '.join(TABLE.profiles) or 'none'}")
    return text


class NativeSettings(BaseSettings):
    """Where the runtime is installed and where its state is."""

    home: Path = Field(ROOT / ".placar", validation_alias="PLACAR_HOME")
    state: Path | None = Field(None, validation_alias="PLACAR_STATE")
    wanted: Annotated[str, AfterValidator(known_profiles)] = Field("", validation_alias="PLACAR_PROFILES")
    bind_host: Name = Field("127.0.0.1", validation_alias="BIND_HOST")
    ready_timeout_s: Annotated[float, Field(gt=0)] = Field(180.0, validation_alias="PLACAR_READY_TIMEOUT_S")
    log_level_servers: Literal["", "debug", "info", "warning", "error"] = Field(
        "", validation_alias="LOG_LEVEL_SERVERS"
    )
    alert_webhook_url: str = Field("", pattern=r"^(https?://\S+)?$", validation_alias="ALERT_WEBHOOK_URL")
    alert_silent_hours: Annotated[int, Field(ge=1, le=24 * 6)] = Field(6, validation_alias="ALERT_SILENT_HOURS")
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    connect: ConnectSettings = Field(default_factory=ConnectSettings)
    postgres: PostgresSettings = Field(default_factory=PostgresSettings)
    s3: S3Settings = Field(default_factory=S3Settings)
    clickhouse: ClickHouseSettings = Field(default_factory=ClickHouseSettings)
    ranking: RankingSettings = Field(default_factory=RankingSettings)
    ports: dict[str, Port] = Field(default_factory=lambda: ports(os.environ))

    @property
    def state_dir(self) -> Path:
        """Data, logs, configuration and run files: all that `clean` removes."""
        return (self.state or self.home / "state").resolve()

    @property
    def profiles(self) -> set[str]:
        """The chosen profiles: those of PLACAR_PROFILES, and those of an `up` since the last `down`."""
        file = self.state_dir / PROFILES
        remembered = names(file.read_text("utf-8")) if file.is_file() else []
        return {*names(self.wanted), *remembered} & {*TABLE.profiles}

    @property
    def socket(self) -> Path:
        """The supervisor's socket."""
        return self.unix_socket("supervisor")

    def unix_socket(self, name: str) -> Path:
        """The path of a socket file: a Unix socket's path has room for about 100 bytes."""
        near = self.state_dir / "run" / f"{name}.sock"
        if len(os.fsencode(near)) < 90:
            return near
        digest = hashlib.sha256(str(self.state_dir).encode()).hexdigest()[:12]
        return Path("/tmp") / f"placar-{digest}-{name}.sock"  # noqa: S108 - TMPDIR may be as long


def ports(environment: Mapping[str, str]) -> dict[str, int]:
    """Every port by the name of its setting.

    Raises:
        ValueError: a value is not a port; the message names the setting.
    """
    values = {}
    for name, (default, _) in PORTS.items():
        text = environment.get(name, str(default))
        if not text.isdigit() or not 1 <= int(text) <= 65535:
            raise ValueError(f"{name} {text[:60]!r}: a port is a number from 1 to 65535")
        values[name] = int(text)
    return values


def secret(value: SecretStr) -> str:
    """The value of a secret, to hand it over."""
    return value.get_secret_value()
