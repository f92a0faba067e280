"""Typed settings from environment variables: the shared groups, and one readable line for a wrong one."""

import os
import sys
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from contracts.windows import DEFAULT, WindowLength, window_lengths

Port = Annotated[int, Field(ge=1, le=65535)]
Name = Annotated[str, Field(min_length=1)]


class KafkaSettings(BaseSettings):
    """Where the broker is."""

    model_config = SettingsConfigDict(env_prefix="KAFKA_")
    host: Name = "127.0.0.1"
    port: Port = 9092

    @property
    def bootstrap(self) -> str:
        """host:port, as Kafka clients take it."""
        return f"{self.host}:{self.port}"


class TopicSettings(BaseSettings):
    """How topics are made: in so many copies."""

    model_config = SettingsConfigDict(env_prefix="KAFKA_")
    replicas: Annotated[int, Field(ge=1, le=32767)] = 1


class _HttpServer(BaseSettings):
    """Where a server with an HTTP API is; a class derives from it for each, with its prefix and port."""

    path: ClassVar[str] = ""
    host: Name = "127.0.0.1"
    port: Port

    @property
    def url(self) -> str:
        """Base of the API."""
        return f"http://{self.host}:{self.port}{self.path}"


class RegistrySettings(_HttpServer):
    """Where the schema registry is, and its Confluent-compatible API."""

    model_config = SettingsConfigDict(env_prefix="SCHEMA_REGISTRY_")
    path = "/apis/ccompat/v7"
    port: Port = 8085


class ConnectSettings(_HttpServer):
    """Where Kafka Connect is."""

    model_config = SettingsConfigDict(env_prefix="CONNECT_")
    port: Port = 8083


REGISTRY_DATABASE = "registry"
LINEAGE_DATABASE = "lineage"
"""Further databases of the same Postgres."""


class PostgresSettings(BaseSettings):
    """Where the database is and who we are there."""

    model_config = SettingsConfigDict(env_prefix="POSTGRES_")
    host: Name = "127.0.0.1"
    port: Port = 5432
    db: Name = "sales"
    user: Name = "placar"
    password: SecretStr = SecretStr("placar")


class S3Settings(BaseSettings):
    """Which object store and bucket; any S3 endpoint."""

    model_config = SettingsConfigDict(env_prefix="S3_")
    port: Port = 9000
    endpoint: str = Field(default_factory=lambda data: f"http://127.0.0.1:{data['port']}", pattern="^https?://")
    region: Name = "us-east-1"
    access_key: Name = "placar"
    secret_key: SecretStr = SecretStr("placar-secret")
    bucket: Name = "sales-data"


class ClickHouseSettings(BaseSettings):
    """Where ClickHouse is and who we are there."""

    model_config = SettingsConfigDict(env_prefix="CLICKHOUSE_")
    host: Name = "127.0.0.1"
    native_port: Port = 9010
    http_port: Port = 8123
    db: Name = "placar"
    user: Name = "placar"
    password: SecretStr = SecretStr("placar")

    @property
    def address(self) -> str:
        """host:port of the native protocol, for messages."""
        return f"{self.host}:{self.native_port}"


def _window_lengths(text: str) -> str:
    window_lengths(text)
    return text


class RankingSettings(BaseSettings):
    """Which window lengths there are; the ranking job reads the same variable."""

    model_config = SettingsConfigDict(env_prefix="RANKING_")
    windows: Annotated[str, AfterValidator(_window_lengths)] = DEFAULT

    @property
    def lengths(self) -> tuple[WindowLength, ...]:
        """The window lengths; the first is the main one."""
        return window_lengths(self.windows)


class FlinkSettings(_HttpServer):
    """Where the JobManager's REST API is."""

    model_config = SettingsConfigDict(env_prefix="FLINK_REST_")
    port: Port = 8081


class PrometheusSettings(BaseSettings):
    """Where Prometheus is, for those who ask it."""

    model_config = SettingsConfigDict(env_prefix="PROMETHEUS_")
    port: Port = 9090
    url: str = Field(default_factory=lambda data: f"http://127.0.0.1:{data['port']}", pattern="^https?://")


class LegacySoapSettings(_HttpServer):
    """Where the legacy ERP's SOAP service is, for those who call it; its WSDL is at `?wsdl`."""

    model_config = SettingsConfigDict(env_prefix="LEGACY_SOAP_")
    path = "/ws/sales"
    port: Port = 8090


class LineageSettings(BaseSettings):
    """Where OpenLineage events go: `http` posts to `url`, `file` appends to `file_dir`, `off` sends nothing."""

    model_config = SettingsConfigDict(env_prefix="LINEAGE_")
    transport: Literal["file", "http", "off"] = "http"
    port: Port = Field(5000, validation_alias="MARQUEZ_PORT")
    namespace: Name = "placar"
    file_dir: Name = ".placar/state/lineage"
    url: str = Field(default_factory=lambda data: f"http://127.0.0.1:{data['port']}", pattern="^https?://")
    interval_s: Annotated[float, Field(gt=0)] = 60.0


class UnitSettings(BaseSettings):
    """What every unit has; a unit's own settings class derives from it and sets `env_prefix` to `<UNIT>_`."""

    bind_host: Name = Field("127.0.0.1", validation_alias="BIND_HOST")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", validation_alias="LOG_LEVEL")
    lineage: LineageSettings = Field(default_factory=LineageSettings)
    ops_port: Port


S = TypeVar("S", bound=BaseSettings)


def _groups(root: type[BaseSettings]) -> Iterator[type[BaseSettings]]:
    yield root
    for field in root.model_fields.values():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseSettings):
            yield from _groups(kind)


def describe(error: ValidationError, root: type[BaseSettings], environment: Mapping[str, str]) -> str:
    """One line per process end: each wrong variable with its value (never a secret's) and what it must be."""
    owner = next((group for group in _groups(root) if group.__name__ == error.title), root)
    prefix = owner.model_config.get("env_prefix", "")
    wrong = []
    for item in error.errors(include_url=False):
        field = str(item["loc"][0]) if item["loc"] else "?"
        variable = field if field.isupper() else f"{prefix}{field}".upper()
        value = environment.get(variable)
        secret = any(word in variable for word in ("PASSWORD", "SECRET", "TOKEN"))
        shown = "is not set" if value is None else "(hidden)" if secret else repr(value[:60])
        wrong.append(f"{variable} {shown}: {item['msg']}")
    return "; ".join(wrong)


def load(settings: type[S], **overrides: Any) -> S:
    """Settings from the environment, or the end of the process with one readable line and exit status 2."""
    try:
        return settings(**overrides)
    except ValidationError as error:
        sys.stderr.write(f"wrong setting: {describe(error, settings, os.environ)}\n")
        raise SystemExit(2) from None
