"""Settings of the sink."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from chassis.rejections import RejectionSettings
from chassis.settings import (
    ClickHouseSettings,
    KafkaSettings,
    Port,
    RankingSettings,
    RegistrySettings,
    UnitSettings,
)

MAPPINGS_FILE = Path(__file__).parent / "mappings.yaml"


class SinkSettings(UnitSettings):
    """Servers, the mapping file, the window lengths and the consumer group."""

    model_config = SettingsConfigDict(env_prefix="CLICKHOUSE_SINK_")
    ops_port: Port = 9207
    group: str = Field("clickhouse_sink", min_length=1, description="consumer group")
    mappings: Path = Field(MAPPINGS_FILE, description="YAML file: which topic goes into which table")
    ranking: RankingSettings = Field(default_factory=RankingSettings)
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    rejections: RejectionSettings = Field(default_factory=RejectionSettings)
    registry: RegistrySettings = Field(default_factory=RegistrySettings)
    clickhouse: ClickHouseSettings = Field(default_factory=ClickHouseSettings)
