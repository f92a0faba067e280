"""The setting that every service shares whose source has amounts in several currencies."""

from typing import Annotated

import pycountry
from pydantic import AfterValidator
from pydantic_settings import BaseSettings, SettingsConfigDict


def _known(code: str) -> str:
    if pycountry.currencies.get(alpha_3=code) is None or not code.isupper():
        raise ValueError("not an ISO 4217 code, such as BRL")
    return code


class ReportingSettings(BaseSettings):
    """Environment variables REPORTING_*: the one `currency` in which sales are ranked."""

    model_config = SettingsConfigDict(env_prefix="REPORTING_")
    currency: Annotated[str, AfterValidator(_known)] = "BRL"
