"""Settings of the operations dashboard."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from chassis.settings import Port, PrometheusSettings, UnitSettings


class OpsSettings(UnitSettings):
    """Where the dashboard listens, and which Prometheus it queries."""

    model_config = SettingsConfigDict(env_prefix="OPS_")
    ops_port: Port = 9209
    port: Port = 8092
    prometheus: PrometheusSettings = Field(default_factory=PrometheusSettings)
