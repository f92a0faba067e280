"""Settings of the watcher."""

from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from chassis.settings import FlinkSettings, KafkaSettings, Port, RankingSettings, RegistrySettings, UnitSettings
from contracts.catalogue import catalogue

ROOT = Path(__file__).parents[2]
PYFLINK = Path("flink-venv/lib/python3.11/site-packages/pyflink")


class WatcherSettings(UnitSettings):
    """Flink, the folders it shares with us, and how often to look.

    The command line of Flink reads FLINK_CONF_DIR, FLINK_LIB_DIR and FLINK_LOG_DIR itself, from the same environment.
    """

    model_config = SettingsConfigDict(env_prefix="FLINK_WATCHER_")
    ops_port: Port = 9211
    home: Path = Field(ROOT / ".placar", validation_alias="PLACAR_HOME", description="installed software")
    state: Path = Field(
        default_factory=lambda data: data["home"] / "state", validation_alias="PLACAR_STATE", description="data"
    )
    flink_home: Path = Field(
        default_factory=lambda data: data["home"] / PYFLINK, validation_alias="FLINK_HOME", description="Flink itself"
    )
    client_java_options: str = Field(
        "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xmx384m",
        description="of the JVM that submits: it lives for seconds, so it must start fast",
    )
    interval_s: float = Field(2.0, gt=0, description="seconds between reconciliations")
    submit_timeout_s: float = Field(180.0, gt=0, description="seconds within which a submission must end")
    savepoint_timeout_s: float = Field(60.0, gt=0, description="seconds within which a stop with savepoint must end")
    deadline_s: float = Field(
        180.0, gt=0, description="seconds within which the job must run, or a rebuild come further"
    )
    state_ttl_days: int = Field(
        35, ge=1, validation_alias="RANKING_STATE_TTL_DAYS", description="of the job: how long its state lives"
    )
    flink: FlinkSettings = Field(default_factory=FlinkSettings)
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    registry: RegistrySettings = Field(default_factory=RegistrySettings)
    ranking: RankingSettings = Field(default_factory=RankingSettings)

    @property
    def folder(self) -> Path:
        """Where Flink's checkpoints, its savepoints and our own record are."""
        return self.state.absolute() / "flink"

    @field_validator("state_ttl_days", mode="after")
    @classmethod
    def _shorter_than_the_log(cls, days: int) -> int:
        # A rebuild can only be right for windows of which the log holds everything.
        kept = catalogue()["sales.unified"].retention_days
        if kept is not None and days >= kept:
            raise ValueError(f"must be less than the {kept} days for which sales.unified is kept (its topic.yaml)")
        return days
