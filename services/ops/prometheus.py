"""The part of Prometheus' HTTP API that the dashboard needs."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Generic, Literal, TypeVar

import httpx
from pydantic import BaseModel, Field, ValidationError

from contracts.text import shortened


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


class _Group(BaseModel):
    rules: list[Rule]


class _Rules(BaseModel):
    groups: list[_Group]


class _Matrix(BaseModel):
    result: list[Series]


D = TypeVar("D", bound=BaseModel)


class _Answer(BaseModel, Generic[D]):
    data: D


class Prometheus:
    """A client of one Prometheus. Every method raises PrometheusUnavailableError."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def _get(self, path: str, kind: type[_Answer[D]], **parameters: str) -> D:
        try:
            response = await self._client.get(f"/api/v1/{path}", params=parameters)
        except httpx.TransportError as error:
            raise PrometheusUnavailableError(str(error) or repr(error)) from error
        text = shortened(" ".join(response.text.split()), 200)
        if response.is_error:
            raise PrometheusUnavailableError(f"{path} is answered with {response.status_code}: {text}")
        try:
            return kind.model_validate_json(response.content).data
        except ValidationError as error:
            raise PrometheusUnavailableError(f"{path} is not answered as Prometheus does: {text}") from error

    async def rules(self) -> list[Rule]:
        """All alerting rules."""
        answer = await self._get("rules", _Answer[_Rules], type="alert")
        return [rule for group in answer.groups for rule in group.rules]

    async def range(self, query: str, end: float, length_s: int, step_s: int) -> list[Series]:
        """The values of a query at `end` (seconds since 1970) and every `step_s` seconds of the time before."""
        times = {"start": f"{end - length_s:.3f}", "end": f"{end:.3f}", "step": str(step_s)}
        return (await self._get("query_range", _Answer[_Matrix], query=query, **times)).result
