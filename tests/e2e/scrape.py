"""What a process exports, and what Prometheus has collected."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import tenacity
import yaml

from deploy.native.settings import ROOT

SAMPLE = re.compile(r"(?P<name>\w+)(?:\{(?P<labels>.*)\})? \S+")
LABEL = re.compile(r'(\w+)="(?:[^"\\]|\\.)*"')
# what of an expression is a metric: ours, a recorded one, a server's, or Prometheus' own
METRIC = re.compile(r"\b(?:placar_\w+|\w+:placar_\w+:\w+|flink_\w+|up)\b")


@dataclass
class Scraped:
    """Kinds by name, and the label names of each series by the name of the metric."""

    kinds: dict[str, str] = field(default_factory=dict)
    series: dict[str, list[set[str]]] = field(default_factory=dict)


def parse(text: str) -> Scraped:
    """Read an exposition; the series of a histogram count under its own name, without `le`."""
    scraped = Scraped()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            scraped.kinds[name] = kind
        elif line and not line.startswith("#"):
            sample = SAMPLE.fullmatch(line)
            assert sample is not None, line
            name = sample["name"]
            if name not in scraped.kinds:
                name = re.sub(r"_(bucket|sum|count)$", "", name)
            scraped.series.setdefault(name, []).append(set(LABEL.findall(sample["labels"] or "")) - {"le"})
    return scraped


def rules(file: str) -> list[dict[str, Any]]:
    """All rules of a file in deploy/prometheus."""
    text = (ROOT / "deploy" / "prometheus" / file).read_text("utf-8")
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


class Prometheus:
    """The running Prometheus of a runtime."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._base = f"http://127.0.0.1:{env['PROMETHEUS_PORT']}/api/v1"

    async def get(self, path: str, **parameters: str) -> Any:
        """The `data` of an answer."""
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"{self._base}/{path}", params=parameters)
        answer.raise_for_status()
        return answer.json()["data"]

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression has now."""
        series: list[dict[str, Any]] = (await self.get("query", query=expression))["result"]
        return series

    async def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        return {one["labels"]["alertname"] for one in (await self.get("alerts"))["alerts"] if one["state"] == "firing"}


def within(seconds: float) -> tenacity.AsyncRetrying:
    """Turns until what is asserted in them holds, at most for so long."""
    return tenacity.AsyncRetrying(stop=tenacity.stop_after_delay(seconds), wait=tenacity.wait_fixed(0.5), reraise=True)
