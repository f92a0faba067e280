"""Settings of the legacy poller."""

from typing import Annotated

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from chassis.settings import KafkaSettings, LegacySoapSettings, Port, RegistrySettings, UnitSettings


class LegacyPollerSettings(UnitSettings):
    """How often, how far back, and with which bounds the service is asked."""

    model_config = SettingsConfigDict(env_prefix="LEGACY_POLLER_")
    ops_port: Port = 9205
    interval_s: Annotated[float, Field(gt=0, description="seconds between two calls")] = 30.0
    overlap_s: Annotated[
        float, Field(ge=0, description="seconds that a call asks for again: more than the clocks can differ")
    ] = 300.0
    timeout_s: Annotated[float, Field(gt=0, description="seconds in which a call must be answered")] = 20.0
    max_answer_bytes: Annotated[int, Field(ge=1024, description="longest answer that is read")] = 64 * 1024 * 1024
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    registry: RegistrySettings = Field(default_factory=RegistrySettings)
    service: LegacySoapSettings = Field(default_factory=LegacySoapSettings)
