"""Settings of the lineage service."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from chassis.settings import Port, PostgresSettings, UnitSettings


class LineageServerSettings(UnitSettings):
    """Where it listens, its database server, and how long it keeps events and ended runs."""

    model_config = SettingsConfigDict(env_prefix="LINEAGE_")
    ops_port: Port = 9215
    port: Port = Field(5000, validation_alias="MARQUEZ_PORT")
    keep_days: int = Field(7, ge=1, description="days for which events and ended runs are kept")
    postgres: PostgresSettings = Field(default_factory=PostgresSettings)
