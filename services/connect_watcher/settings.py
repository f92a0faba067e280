"""Settings of the watcher."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from chassis.settings import ConnectSettings, KafkaSettings, Port, PostgresSettings, RegistrySettings, UnitSettings

RAW_TOPIC = "sales.postgres"
TEMPLATE = Path(__file__).parents[2] / "deploy" / "connect" / "sales-postgres.json"


class WatcherSettings(UnitSettings):
    """Kafka Connect, what the connector needs to know, and how often to reconcile."""

    model_config = SettingsConfigDict(env_prefix="CONNECT_WATCHER_")
    ops_port: Port = 9210
    connector: str = Field("sales-postgres", pattern="^[A-Za-z0-9_.-]+$", description="name in Kafka Connect")
    template: Path = Field(TEMPLATE, description="the connector's configuration, with ${NAME} for settings")
    interval_s: float = Field(5.0, gt=0, description="seconds between two checks of the connector")
    deadline_s: float = Field(120.0, gt=0, description="seconds within which --once must see it running")
    connect: ConnectSettings = Field(default_factory=ConnectSettings)
    registry: RegistrySettings = Field(default_factory=RegistrySettings)
    postgres: PostgresSettings = Field(default_factory=PostgresSettings)
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)

    @property
    def secret(self) -> str:
        """The password that no message may show."""
        return self.postgres.password.get_secret_value()

    @property
    def values(self) -> dict[str, str]:
        """What each ${NAME} of the template stands for."""
        return {
            "POSTGRES_HOST": self.postgres.host,
            "POSTGRES_PORT": str(self.postgres.port),
            "POSTGRES_DB": self.postgres.db,
            "POSTGRES_USER": self.postgres.user,
            "POSTGRES_PASSWORD": self.secret,
            # the converter speaks the registry's own API (v2), not the Confluent-compatible one
            "SCHEMA_REGISTRY_NATIVE_URL": f"http://{self.registry.host}:{self.registry.port}/apis/registry/v2",
        }
