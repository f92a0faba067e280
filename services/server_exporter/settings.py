"""Settings of the exporter."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from chassis.settings import ClickHouseSettings, KafkaSettings, Port, PostgresSettings, RankingSettings, UnitSettings


class ExporterSettings(UnitSettings):
    """The servers, and how often they are queried."""

    model_config = SettingsConfigDict(env_prefix="SERVER_EXPORTER_")
    ops_port: Port = 9212
    interval_s: float = Field(10.0, gt=0, description="seconds between two queries to each server")
    disk: Path = Field(Path(".placar/state"), description="a folder on the disk that must not fill up")
    clickhouse: ClickHouseSettings = Field(default_factory=ClickHouseSettings)
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    postgres: PostgresSettings = Field(default_factory=PostgresSettings)
    ranking: RankingSettings = Field(default_factory=RankingSettings)
