"""Prometheus' HTTP API, as far as the health of the pipeline needs it."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Generic, Literal, TypeVar

import httpx
from pydantic import BaseModel, Field, ValidationError

WHY_LENGTH = 200


class PrometheusAwayError(Exception):
    """Prometheus does not answer, or not as Prometheus does; the message says what came instead."""


class Active(BaseModel):
    """An alert of a rule that fires, or whose cause has not lasted long enough yet."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    state: Literal["firing", "pending"]
    since: datetime = Field(alias="activeAt")


class Rule(BaseModel):
    """An alerting rule; `health` is `ok` where it could be evaluated."""

    name: str
    labels: Mapping[str, str]
    health: str
    alerts: list[Active]


class Series(BaseModel):
    """A series with its values by the seconds since 1970."""

    metric: Mapping[str, str]
    values: list[tuple[float, float]]

    def known(self) -> dict[float, float]:
        """The values that are numbers: a quantile of nothing is none."""
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
    """A Prometheus. Every method raises PrometheusAwayError."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def _ask(self, path: str, kind: type[_Answer[D]], **parameters: str) -> D:
        try:
            response = await self._client.get(f"/api/v1/{path}", params=parameters)
        except httpx.TransportError as error:
            raise PrometheusAwayError(str(error) or repr(error)) from error
        said = " ".join(response.text[:WHY_LENGTH].split())
        if response.is_error:
            raise PrometheusAwayError(f"{path} is answered with {response.status_code}: {said}")
        try:
            return kind.model_validate_json(response.content).data
        except ValidationError as error:
            raise PrometheusAwayError(f"{path} is not answered as Prometheus does: {said}") from error

    async def rules(self) -> list[Rule]:
        """All alerting rules."""
        found = await self._ask("rules", _Answer[_Rules], type="alert")
        return [rule for group in found.groups for rule in group.rules]

    async def range(self, query: str, end: float, length_s: int, step_s: int) -> list[Series]:
        """What a query has had at `end` (seconds since 1970) and every `step_s` seconds of the time before."""
        times = {"start": f"{end - length_s:.3f}", "end": f"{end:.3f}", "step": str(step_s)}
        return (await self._ask("query_range", _Answer[_Matrix], query=query, **times)).result
