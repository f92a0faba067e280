"""Settings of the unit legacy."""

from pydantic_settings import SettingsConfigDict

from chassis.settings import Port
from chassis.stream import StreamSettings


class Settings(StreamSettings):
    """Environment variables LEGACY_*."""

    model_config = SettingsConfigDict(env_prefix="LEGACY_")
    ops_port: Port = 9203
