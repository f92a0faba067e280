"""Settings of the traffic generator."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from chassis.settings import LegacySoapSettings, PostgresSettings, S3Settings


class TrafficSettings(BaseSettings):
    """Where it sells."""

    model_config = SettingsConfigDict(env_prefix="TRAFFIC_")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", validation_alias="LOG_LEVEL")
    wait_s: Annotated[float, Field(gt=0, description="seconds that `seed` waits for a server before it gives up")] = (
        60.0
    )
    file_interval_s: Annotated[float, Field(gt=0, description="seconds of sales in one uploaded CSV file")] = 30.0
    postgres: PostgresSettings = Field(default_factory=PostgresSettings)
    s3: S3Settings = Field(default_factory=S3Settings)
    service: LegacySoapSettings = Field(default_factory=LegacySoapSettings)
