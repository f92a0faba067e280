"""Settings of the simulated providers: the receiver's own, as seen from outside, and where it is."""

from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from chassis.errors import NotDoneError
from chassis.settings import Name, Port
from contracts.webhooks import SECRETS, Provider


class WebhooksSettings(BaseSettings):
    """Where webhooks are sent, the secrets that sign them (comma separated, the newest first), and what is ranked."""

    model_config = SettingsConfigDict(env_prefix="WEBHOOKS_")
    host: Name = "127.0.0.1"
    port: Port = 8091
    public_url: Annotated[str, Field(pattern="^https?://", description="the address that HubSpot signs")] = Field(
        default_factory=lambda data: f"http://127.0.0.1:{data['port']}"
    )
    shopify: SecretStr = Field(SecretStr(""), validation_alias=SECRETS["shopify"])
    stripe: SecretStr = Field(SecretStr(""), validation_alias=SECRETS["stripe"])
    hubspot: SecretStr = Field(SecretStr(""), validation_alias=SECRETS["hubspot"])

    reporting: Literal["BRL", "USD", "EUR", "JPY"] = Field("BRL", validation_alias="REPORTING_CURRENCY")

    @property
    def url(self) -> str:
        """Where the receiver is."""
        return f"http://{self.host}:{self.port}"

    def secrets(self, provider: Provider) -> tuple[str, ...]:
        """The secrets of a provider, the newest first.

        Raises:
            NotDoneError: there is none.
        """
        value: SecretStr = getattr(self, provider)
        found = tuple(secret for secret in value.get_secret_value().split(",") if secret)
        if not found:
            why = f"{SECRETS[provider]} is not set, so nothing can be signed as {provider}"
            raise NotDoneError(f"{why}; ./taskw up -- webhooks makes one, ./taskw lake:secrets shows it")
        return found
