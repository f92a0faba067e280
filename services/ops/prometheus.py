"""The part of Prometheus' HTTP API that the dashboard needs."""

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal, TypeVar

import httpx
from pydantic import BaseModel, Field

from contracts.text import shortened

T = TypeVar("T")


class PrometheusUnavailableError(Exception):
    """Prometheus does not answer, or not as Prometheus does; the message says what came instead."""


class Active(BaseModel):
    """A firing or pending alert of a rule."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    state: Literal["firing", "pending"]
    since: datetime = Field(alias="activeAt")


class Rule(BaseModel):
    """An alerting rule; `health` is `ok` where Prometheus could evaluate it."""

    name: str
    labels: Mapping[str, str]
    health: str
    alerts: list[Active]


class Series(BaseModel):
    """A series with its values by the seconds since 1970."""

    metric: Mapping[str, str]
    values: list[tuple[float, float]]

    def finite(self) -> dict[float, float]:
        """The values that are numbers; a quantile of nothing is NaN."""
        return {at: value for at, value in self.values if math.isfinite(value)}


class Prometheus:
    """A client of one Prometheus. Every method raises PrometheusUnavailableError."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def _get(self, path: str, read: Callable[[Any], T], **parameters: str) -> T:
        try:
            response = await self._client.get(f"/api/v1/{path}", params=parameters)
        except httpx.TransportError as error:
            raise PrometheusUnavailableError(str(error) or repr(error)) from error
        text = shortened(" ".join(response.text.split()), 200)
        if response.is_error:
            raise PrometheusUnavailableError(f"{path} is answered with {response.status_code}: {text}")
        try:
            return read(response.json()["data"])
        except (ValueError, LookupError, TypeError) as error:
            raise PrometheusUnavailableError(f"{path} is not answered as Prometheus does: {text}") from error

    async def rules(self) -> list[Rule]:
        """All alerting rules."""

        def read(data: Any) -> list[Rule]:
            return [Rule.model_validate(rule) for group in data["groups"] for rule in group["rules"]]

        return await self._get("rules", read, type="alert")

    async def range(self, query: str, end: float, length_s: int, step_s: int) -> list[Series]:
        """The values of a query at `end` (seconds since 1970) and every `step_s` seconds of the time before."""

        def read(data: Any) -> list[Series]:
            return [Series.model_validate(series) for series in data["result"]]

        times = {"start": f"{end - length_s:.3f}", "end": f"{end:.3f}", "step": str(step_s)}
        return await self._get("query_range", read, query=query, **times)
