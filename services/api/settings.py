"""Settings of the API."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field
from pydantic_settings import SettingsConfigDict

from chassis.settings import ClickHouseSettings, KafkaSettings, Port, RankingSettings, UnitSettings


def _origins(text: str) -> str:
    for origin in text.split(",") if text else ():
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}":
            raise ValueError(f"{origin[:60]!r} is not an origin such as https://sales.example.com (no path, no space)")
    return text


class ApiSettings(UnitSettings):
    """Where the API listens, the window lengths that it serves, what it bears, and the servers that it asks."""

    model_config = SettingsConfigDict(env_prefix="API_")
    ops_port: Port = 9208
    port: Port = 8080
    connections: int = Field(8, ge=1, le=64, description="connections to ClickHouse")
    query_timeout_s: float = Field(5.0, gt=0, description="seconds after which a query is given up")
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
    clickhouse: ClickHouseSettings = Field(default_factory=ClickHouseSettings)

    @property
    def origins(self) -> tuple[str, ...]:
        """The allowed origins."""
        return tuple(self.cors_origins.split(",")) if self.cors_origins else ()
