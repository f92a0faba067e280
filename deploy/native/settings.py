"""Settings of the native runtime: folders, and every port with the process that opens it."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr
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

ROOT = Path(__file__).resolve().parents[2]

# setting -> (default, the process that listens there)
PORTS: Mapping[str, tuple[int, str]] = {
    "KAFKA_PORT": (9092, "kafka"),
    "KAFKA_CONTROLLER_PORT": (9094, "kafka"),
    "SCHEMA_REGISTRY_PORT": (8085, "registry"),
    "CONNECT_PORT": (8083, "connect"),
    "POSTGRES_PORT": (5432, "postgres"),
    "S3_PORT": (9000, "s3"),
    "S3_GRPC_PORT": (19000, "s3"),
    "S3_MASTER_PORT": (9333, "s3"),
    "S3_MASTER_GRPC_PORT": (19333, "s3"),
    "S3_VOLUME_PORT": (9340, "s3"),
    "S3_VOLUME_GRPC_PORT": (19340, "s3"),
    "S3_FILER_PORT": (8888, "s3"),
    "S3_FILER_GRPC_PORT": (18888, "s3"),
    "S3_ADMIN_PORT": (23646, "s3"),
    "S3_ADMIN_GRPC_PORT": (33646, "s3"),
    "CLICKHOUSE_HTTP_PORT": (8123, "clickhouse"),
    "CLICKHOUSE_NATIVE_PORT": (9010, "clickhouse"),
    "CLICKHOUSE_INTERSERVER_PORT": (9011, "clickhouse"),
    "FLINK_REST_PORT": (8081, "jobmanager"),
    "FLINK_RPC_PORT": (6123, "jobmanager"),
    "FLINK_BLOB_PORT": (6124, "jobmanager"),
    "FLINK_TASKMANAGER1_PORT": (6125, "taskmanager1"),
    "FLINK_TASKMANAGER1_DATA_PORT": (6126, "taskmanager1"),
    "FLINK_TASKMANAGER2_PORT": (6127, "taskmanager2"),
    "FLINK_TASKMANAGER2_DATA_PORT": (6128, "taskmanager2"),
    "LEGACY_SOAP_PORT": (8090, "legacy_soap"),
    "API_PORT": (8080, "api"),
    "OPS_PORT": (8092, "ops"),
    "MARQUEZ_PORT": (5000, "lineage"),
    "CDC_OPS_PORT": (9201, "cdc"),
    "FILES_OPS_PORT": (9202, "files"),
    "LEGACY_OPS_PORT": (9203, "legacy"),
    "FILE_POLLER_OPS_PORT": (9204, "file_poller"),
    "LEGACY_POLLER_OPS_PORT": (9205, "legacy_poller"),
    "LEGACY_SOAP_OPS_PORT": (9206, "legacy_soap"),
    "CLICKHOUSE_SINK_OPS_PORT": (9207, "clickhouse_sink"),
    "API_OPS_PORT": (9208, "api"),
    "OPS_OPS_PORT": (9209, "ops"),
    "KAFKA_METRICS_PORT": (9221, "kafka"),
    "CONNECT_METRICS_PORT": (9222, "connect"),
    "FLINK_JOBMANAGER_METRICS_PORT": (9223, "jobmanager"),
    "FLINK_TASKMANAGER1_METRICS_PORT": (9224, "taskmanager1"),
    "FLINK_TASKMANAGER2_METRICS_PORT": (9225, "taskmanager2"),
    "S3_METRICS_PORT": (9226, "s3"),
    "PROMETHEUS_PORT": (9090, "prometheus"),
    "ALERTMANAGER_PORT": (9093, "alertmanager"),
    "CONNECT_WATCHER_OPS_PORT": (9210, "connect_watcher"),
    "FLINK_WATCHER_OPS_PORT": (9211, "flink_watcher"),
    "SERVER_EXPORTER_OPS_PORT": (9212, "server_exporter"),
    "LINEAGE_OPS_PORT": (9215, "lineage"),
}


class NativeSettings(BaseSettings):
    """Where the runtime is installed and where its state is."""

    home: Path = Field(ROOT / ".placar", validation_alias="PLACAR_HOME")
    state: Path | None = Field(None, validation_alias="PLACAR_STATE")
    bind_host: Name = Field("127.0.0.1", validation_alias="BIND_HOST")
    ready_timeout_s: Annotated[float, Field(gt=0)] = Field(180.0, validation_alias="PLACAR_READY_TIMEOUT_S")
    log_level_servers: Literal["", "debug", "info", "warning", "error"] = Field(
        "", validation_alias="LOG_LEVEL_SERVERS"
    )
    alert_webhook_url: str = Field("", pattern=r"^(https?://\S+)?$", validation_alias="ALERT_WEBHOOK_URL")
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
