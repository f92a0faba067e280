"""Settings of the unit files."""

from datetime import UTC, tzinfo
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator
from pydantic_settings import SettingsConfigDict

from chassis.settings import Port
from chassis.stream import StreamSettings


def zone(name: str) -> tzinfo:
    """The time zone of an IANA name.

    Raises:
        ValueError: no such zone.
    """
    if name == "UTC":  # needs no time zone database on the machine
        return UTC
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError):
        raise ValueError("not an IANA time zone, such as UTC or America/Sao_Paulo") from None


def _known(name: str) -> str:
    zone(name)
    return name


class Settings(StreamSettings):
    """Environment variables FILES_*; `timezone` is that of a sale_date which names none."""

    model_config = SettingsConfigDict(env_prefix="FILES_")
    ops_port: Port = 9202
    timezone: Annotated[str, AfterValidator(_known)] = "UTC"
