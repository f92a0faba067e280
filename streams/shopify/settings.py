"""Settings of the unit shopify."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from chassis.settings import Port
from chassis.stream import StreamSettings
from streams.reporting import ReportingSettings


class Settings(StreamSettings):
    """Environment variables SHOPIFY_*."""

    model_config = SettingsConfigDict(env_prefix="SHOPIFY_")
    ops_port: Port = 9217
    reporting: ReportingSettings = Field(default_factory=ReportingSettings)
