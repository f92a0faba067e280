"""Settings of the API."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from chassis.settings import ClickHouseSettings, KafkaSettings, Port, RankingSettings, UnitSettings


class ApiSettings(UnitSettings):
    """Where the API listens, the window lengths that it serves, and the servers that it asks."""

    model_config = SettingsConfigDict(env_prefix="API_")
    ops_port: Port = 9208
    port: Port = 8080
    connections: int = Field(8, ge=1, le=64, description="connections to ClickHouse")
    query_timeout_s: float = Field(5.0, gt=0, description="seconds after which a query is given up")
    ranking: RankingSettings = Field(default_factory=RankingSettings)
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    clickhouse: ClickHouseSettings = Field(default_factory=ClickHouseSettings)
