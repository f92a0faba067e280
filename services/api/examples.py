"""Example answers of the OpenAPI document; those of rankings are the examples of their contracts."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from contracts.catalogue import catalogue
from contracts.json_avro import typed
from contracts.rankings import RANKINGS, RankingDefinition
from contracts.time import EXAMPLE
from services.api import models
from services.api.live_rankings import answer
from services.api.transform import WindowsCursor, write_cursor

_START = datetime.fromisoformat(EXAMPLE).astimezone(UTC)
_HOUR = models.Window(start=_START, end=_START + timedelta(hours=1))
_AS_OF = _START + timedelta(hours=1, seconds=6, milliseconds=250)


def _record(ranking: RankingDefinition) -> dict[str, Any]:
    """The longest example of the ranking's contract."""
    topic = catalogue()[ranking.topic]
    longest = max(topic.examples().values(), key=lambda record: len(record["entries"]))
    record: dict[str, Any] = typed(topic.avro, longest)
    return record


COMPETITORS: Mapping[str, str] = {ranking.name: _record(ranking)["entries"][0]["name"] for ranking in RANKINGS}
"""A competitor of each ranking."""


def ranking_examples(ranking: RankingDefinition) -> dict[str, models.RankingSet]:
    """Answers of a ranking: a set, and one whose sales were all deleted."""
    record = _record(ranking)
    emptied = {"status": "corrected", "revision": record["revision"] + 1, "entries": []}
    return {
        "set": answer(ranking, {**record, "entries": record["entries"][:2]}),
        "emptied": answer(ranking, {**record, **emptied}),
    }


def explanation_example(ranking: RankingDefinition) -> models.Explanation:
    """The sales behind a rank: one."""
    fields = {"salesman_name": "Ana Beatriz Souza", "city": "São Paulo", "country": "BR", "product": "GPU"}
    name = COMPETITORS[ranking.name]
    only = models.Sale(
        source="files",
        sale_id="f-1001",
        version="4611686018427387905",
        amount=Decimal("1299.90"),
        event_time=_START + timedelta(minutes=12, milliseconds=5),
        **{**fields, ranking.column: name},
    )
    return models.Explanation(
        ranking=ranking.name,
        window=_HOUR,
        name=name,
        country="BR" if ranking.per_country else None,
        total_sales=only.amount,
        transaction_count=1,
        sales=[only],
    )


def windows_example() -> models.Windows:
    """A page of windows with another behind it."""
    next_hour = models.Window(start=_HOUR.end, end=_HOUR.end + timedelta(hours=1))
    known = {"as_of": _AS_OF}
    name = RANKINGS[0].name
    return models.Windows(
        ranking=name,
        length="1h",
        windows=[
            models.KnownWindow(start=next_hour.start, end=next_hour.end, status="provisional", revision=3, **known),
            models.KnownWindow(start=_HOUR.start, end=_HOUR.end, status="final", revision=48, **known),
        ],
        next_cursor=write_cursor(WindowsCursor(name, "1h", "", int(_START.timestamp()))),
    )


_SERVER = models.ServerHealth(state="UP", since=_START, checked_at=_AS_OF, latency_ms=1.8, version="24.8.4.13")
_DOWN = models.ServerHealth(state="DOWN", since=_START, checked_at=_AS_OF, latency_ms=1000.4, why="no answer in 1.0 s")
_FRESH = models.Freshness(fresh=True, as_of=_AS_OF, age_seconds=2.1)
_DETAILS = models.HealthDetails(started_at=_START, clickhouse=_SERVER, kafka=_DOWN)
HEALTH_UP: Mapping[str, models.Health] = {
    "up": models.Health(status="UP", clickhouse="UP", kafka="UP"),
    "details": models.Health(
        status="UP",
        clickhouse="UP",
        kafka="UP",
        details=_DETAILS.model_copy(update={"kafka": _SERVER, "rankings": _FRESH}),
    ),
}
HEALTH_DOWN: Mapping[str, models.Health] = {
    "down": models.Health(status="DOWN", clickhouse="UP", kafka="DOWN"),
    "details": models.Health(status="DOWN", clickhouse="UP", kafka="DOWN", details=_DETAILS),
}
