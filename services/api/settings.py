"""Settings of the API."""

import re
from ipaddress import ip_network
from typing import Annotated
from urllib.parse import urlsplit

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
from contracts.text import quoted


def _token(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if text and not re.fullmatch(r"[A-Za-z0-9._~+-]{16,}", text):
        raise ValueError(
            "must be at least 16 of A to Z, a to z, 0 to 9 and . _ ~ + - (browsers send it as a subprotocol)"
        )
    return value


def _networks(text: str) -> str:
    for network in text.split(",") if text else ():
        try:
            ip_network(network)
        except ValueError:
            raise ValueError(f"{quoted(network)} is not an address or network such as 10.0.0.0/8 (no space)") from None
    return text


def _root_path(text: str) -> str:
    if text and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", text):
        raise ValueError("must be a path such as /placar (no slash at the end)")
    return text


def _origins(text: str) -> str:
    for origin in text.split(",") if text else ():
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}":
            raise ValueError(f"{quoted(origin)} is not an origin such as https://sales.example.com (no path, no space)")
    return text


class ApiSettings(UnitSettings):
    """Where the API listens, the window lengths that it serves, its limits, and the servers that it uses."""

    model_config = SettingsConfigDict(env_prefix="API_")
    ops_port: Port = 9208
    port: Port = 8080
    root_path: Annotated[str, AfterValidator(_root_path)] = Field(
        "", description="path under which a proxy serves the API and its page, such as /placar"
    )
    trusted_proxies: Annotated[str, AfterValidator(_networks)] = Field(
        "", description="addresses and networks, separated by commas, whose X-Forwarded-For names the client"
    )
    connections: int = Field(8, ge=1, le=64, description="connections to ClickHouse")
    share_s: float = Field(1.0, ge=0, le=5, description="seconds for which all equal requests get one answer")
    explain_share_s: float = Field(2.0, ge=0, le=5, description="the same for the sales behind a rank")
    query_timeout_s: float = Field(5.0, gt=0, description="seconds after which a query is cancelled")
    live_heartbeat_s: float = Field(15.0, gt=0, description="seconds between two heartbeats of the live stream")
    live_origins: Annotated[str, AfterValidator(_origins)] = Field(
        "", description="origins, separated by commas, whose pages may connect, besides the API's own"
    )
    live_token: Annotated[SecretStr, AfterValidator(_token)] = Field(
        SecretStr(""), description="what a client of the live stream must present; empty: nothing"
    )
    live_connections: int = Field(2000, ge=1, description="clients of the live stream at once")
    live_connections_per_address: int = Field(500, ge=1, description="of them from one address")
    live_messages_per_minute: int = Field(60, ge=1, description="messages that a client may send")
    live_sets_per_s: float = Field(500.0, gt=0, description="sets a second that snapshots for one address may have")
    live_sets_burst: int = Field(5000, ge=1, description="of them at once, before the address must wait")
    live_queue: int = Field(1000, ge=1, description="sets that may wait for a client before it is too slow")
    live_send_timeout_s: float = Field(10.0, gt=0, description="seconds that a client may take for one frame")
    live_windows: int = Field(1000, ge=1, description="newest windows of a ranking, length and country that are kept")
    request_timeout_s: float = Field(10.0, gt=0, description="seconds after which a request is answered with 503")
    receive_timeout_s: float = Field(10.0, gt=0, description="seconds within which a whole request must have come")
    max_head_bytes: int = Field(16384, ge=1024, description="of the address and headers of a request")
    max_body_bytes: int = Field(65536, ge=0, description="of the body of a request")
    rate_limit_per_s: float = Field(500.0, ge=0, description="requests a second of one client, lasting; 0: no limit")
    rate_limit_burst: int = Field(1000, ge=1, description="requests of one client at once")
    cors_origins: Annotated[str, AfterValidator(_origins)] = Field(
        "", description="origins, separated by commas, whose pages may read the API"
    )
    fresh_s: float = Field(120.0, gt=0, description="seconds for which the newest ranking counts as fresh")
    ranking: RankingSettings = Field(default_factory=RankingSettings)
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    registry: RegistrySettings = Field(default_factory=RegistrySettings)
    clickhouse: ClickHouseSettings = Field(default_factory=ClickHouseSettings)

    @property
    def origins(self) -> tuple[str, ...]:
        """The allowed origins."""
        return tuple(self.cors_origins.split(",")) if self.cors_origins else ()
