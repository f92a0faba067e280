"""Settings of the unit cdc."""

from typing import Annotated

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from chassis.settings import Port
from chassis.stream import StreamSettings


class Settings(StreamSettings):
    """Environment variables CDC_*.

    `epoch` stands above the log sequence number in a version: raise it when the database is restored, because its log
    sequence numbers then start again below those already seen.
    """

    model_config = SettingsConfigDict(env_prefix="CDC_")
    ops_port: Port = 9201
    epoch: Annotated[int, Field(ge=0, le=127)] = 1
