"""Settings of the unit stripe."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from chassis.settings import Port
from chassis.stream import StreamSettings
from streams.reporting import ReportingSettings


class Settings(StreamSettings):
    """Environment variables STRIPE_*."""

    model_config = SettingsConfigDict(env_prefix="STRIPE_")
    ops_port: Port = 9218
    reporting: ReportingSettings = Field(default_factory=ReportingSettings)
