"""Settings of the legacy SOAP service."""

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from chassis.settings import Name, Port, UnitSettings


class LegacySoapServerSettings(UnitSettings):
    """Where it listens, where its book of sales lies, and how fast it makes up sales."""

    model_config = SettingsConfigDict(env_prefix="LEGACY_SOAP_")
    ops_port: Port = 9206
    port: Port = 8090
    host: Name = Field("127.0.0.1", description="the name under which callers reach it, as the WSDL says it")
    data_dir: Path = Field(Path(".placar/state/data/legacy_soap"), description="folder of the book of sales")
    rate_per_minute: Annotated[float, Field(ge=0, le=60_000, description="made-up sales per minute; 0: none")] = 6.0
    seed: int | None = Field(None, description="makes the made-up sales the same each time")
    keep_sales: Annotated[int, Field(ge=1, description="newest sales that the book keeps")] = 50_000
    max_request_bytes: Annotated[int, Field(ge=1024, description="longest request that is read")] = 1024 * 1024
