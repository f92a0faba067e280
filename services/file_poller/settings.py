"""Settings of the file poller."""

from typing import Annotated

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from chassis.settings import KafkaSettings, Port, RegistrySettings, S3Settings, UnitSettings


class FilePollerSettings(UnitSettings):
    """How often, in which steps, and from where files are read."""

    model_config = SettingsConfigDict(env_prefix="FILE_POLLER_")
    ops_port: Port = 9204
    interval_s: Annotated[float, Field(gt=0, description="seconds between two listings of the bucket")] = 60.0
    prefix: Annotated[str, Field(description="only keys under this prefix; empty: the whole bucket")] = ""
    batch_rows: Annotated[int, Field(ge=1, le=20_000, description="rows published between two progress records")] = 2000
    chunk_bytes: Annotated[int, Field(ge=1024, le=64 * 1024 * 1024, description="bytes per request of an object")] = (
        2 * 1024 * 1024
    )
    page_keys: Annotated[int, Field(ge=1, le=1000, description="keys taken at once from a listing")] = 1000
    whole_files: bool = Field(
        False, description="a later upload also deletes the sales that the upload before held and it does not"
    )
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    registry: RegistrySettings = Field(default_factory=RegistrySettings)
    s3: S3Settings = Field(default_factory=S3Settings)
