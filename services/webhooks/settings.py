"""Settings of the webhook receiver."""

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import SettingsConfigDict

from chassis.settings import KafkaSettings, Port, RegistrySettings, UnitSettings
from contracts.webhooks import SECRETS, Provider

MAX_SECRETS = 2
MAX_REQUEST_BYTES = 1_000_000
"""What fits with its envelope into the broker's default message.max.bytes (1,048,588)."""


def _secrets(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    secrets = text.split(",") if text else []
    if len(secrets) > MAX_SECRETS:
        raise ValueError(f"has {len(secrets)} secrets; at most {MAX_SECRETS} are valid at once, the newest first")
    if not all(re.fullmatch(r"[!-~]+", secret) for secret in secrets):
        raise ValueError("must be one secret, or two separated by a comma: none blank, and no space")
    return value


def _public_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise ValueError("must be an address such as https://hooks.example.com (no query)")
    return text.rstrip("/")


Secrets = Annotated[SecretStr, AfterValidator(_secrets)]


class WebhooksSettings(UnitSettings):
    """Where the receiver listens, the providers' secrets, and its limits."""

    model_config = SettingsConfigDict(env_prefix="WEBHOOKS_")
    ops_port: Port = 9216
    port: Port = 8091
    shopify: Secrets = Field(SecretStr(""), validation_alias=SECRETS["shopify"])
    stripe: Secrets = Field(SecretStr(""), validation_alias=SECRETS["stripe"])
    hubspot: Secrets = Field(SecretStr(""), validation_alias=SECRETS["hubspot"])
    public_url: Annotated[str, AfterValidator(_public_url)] = Field(
        default_factory=lambda data: f"http://127.0.0.1:{data['port']}",
        description="the address under which HubSpot reaches the receiver, up to /webhooks: HubSpot signs it",
    )
    max_request_bytes: Annotated[int, Field(ge=1024, le=MAX_REQUEST_BYTES, description="longest body that is read")] = (
        MAX_REQUEST_BYTES
    )
    max_requests: Annotated[int, Field(ge=1, description="requests in flight; more are answered with 503")] = 1000
    max_bytes: Annotated[int, Field(ge=MAX_REQUEST_BYTES, description="bytes of bodies and records in flight")] = (
        32 * 1024 * 1024
    )
    ack_timeout_s: Annotated[float, Field(gt=0, lt=5, description="seconds to wait for the broker, then 503")] = 3.0
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    registry: RegistrySettings = Field(default_factory=RegistrySettings)

    def secrets(self, provider: Provider) -> tuple[str, ...]:
        """The provider's secrets, the newest first; none where its setting is empty."""
        text: str = getattr(self, provider).get_secret_value()
        return tuple(text.split(",")) if text else ()
