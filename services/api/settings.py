"""Settings of the API."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import SettingsConfigDict

from chassis.settings import (
    ClickHouseSettings,
    KafkaSettings,
    Port,
    RankingSettings,
    RegistrySettings,
    UnitSettings,
)


def _token(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if text and not re.fullmatch(r"[A-Za-z0-9._~+-]{16,}", text):
        raise ValueError("must be at least 16 letters, digits or . _ ~ + - (browsers send it as a subprotocol)")
    return value


class ApiSettings(UnitSettings):
    """Where the API listens, the window lengths that it serves, and the servers that it asks."""

    model_config = SettingsConfigDict(env_prefix="API_")
    ops_port: Port = 9208
    port: Port = 8080
    connections: int = Field(8, ge=1, le=64, description="connections to ClickHouse")
    query_timeout_s: float = Field(5.0, gt=0, description="seconds after which a query is given up")
    live_heartbeat_s: float = Field(15.0, gt=0, description="seconds between two heartbeats of the live stream")
    live_origins: str = Field("", description="origins whose pages may connect, besides the API's own; by commas")
    live_token: Annotated[SecretStr, AfterValidator(_token)] = Field(
        SecretStr(""), description="what a client of the live stream must present; empty: nothing"
    )
    live_connections: int = Field(2000, ge=1, description="clients of the live stream at once")
    live_connections_per_address: int = Field(500, ge=1, description="of them from one address")
    live_messages_per_minute: int = Field(60, ge=1, description="messages that a client may send")
    live_queue: int = Field(1000, ge=1, description="sets that may wait for a client before it is too slow")
    live_send_timeout_s: float = Field(10.0, gt=0, description="seconds that a client may take for one frame")
    live_windows: int = Field(1000, ge=1, description="newest windows of a ranking, length and country that are kept")
    ranking: RankingSettings = Field(default_factory=RankingSettings)
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    registry: RegistrySettings = Field(default_factory=RegistrySettings)
    clickhouse: ClickHouseSettings = Field(default_factory=ClickHouseSettings)
