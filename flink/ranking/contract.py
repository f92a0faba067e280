"""Ranking sets in the contract's Avro schema and the Confluent wire format, under the id that the registry gave it."""

import io
import json
import struct
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from importlib import resources
from typing import Any

import fastavro

from contracts.rankings import RankingWindow
from flink.ranking.windows.top_n import Window

TIMEOUT_S = 10


class ContractError(Exception):
    """The registry does not hold the schema that this job writes; the message names subject, address and remedy."""


@dataclass(frozen=True)
class Contract:
    """The schema of a topic's values and its id in the registry."""

    schema_id: int
    schema: Mapping[str, Any]


def released(topic: str) -> Mapping[str, Any]:
    """The value schema of `topic` as contracts/topics has it.

    Raises:
        ContractError: there is no such topic in the contracts.
    """
    path = resources.files("contracts") / "topics" / topic / "value.avsc"
    try:
        schema: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ContractError(f"contracts/topics has no topic {topic}: add its folder") from error
    return schema


def registered(registry_url: str, topic: str, schema: Mapping[str, Any]) -> Contract:
    """The contract of `topic` under the id by which the registry knows this schema; registers nothing.

    Raises:
        ContractError: the registry is unreachable or its subject does not hold the schema.
    """
    subject = f"{topic}-value"
    request = urllib.request.Request(  # noqa: S310 - the address begins with http://
        f"{registry_url}/subjects/{subject}",
        data=json.dumps({"schema": json.dumps(schema)}).encode(),
        headers={"Content-Type": "application/vnd.schemaregistry.v1+json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
            return Contract(int(json.load(answer)["id"]), schema)
    except urllib.error.HTTPError as error:
        raise ContractError(
            f"subject {subject} at {registry_url} does not hold this schema ({error.code}): "
            "run `task contracts:publish`"
        ) from error
    except OSError as error:
        raise ContractError(
            f"schema registry at {registry_url} (settings SCHEMA_REGISTRY_HOST, SCHEMA_REGISTRY_PORT): {error}"
        ) from error


def money(cents: int) -> Decimal:
    """Cents as an exact amount with two decimals, whatever their number of digits."""
    sign, digits, _ = Decimal(cents).as_tuple()
    return Decimal((sign, digits, -2))


def ranking_set(
    of: RankingWindow, country: str, bounds: tuple[int, int], window: Window, *, watermark_ms: int, now_ms: int
) -> dict[str, Any]:
    """The record of the ranking that `window` holds; times are epoch milliseconds."""
    return {
        "ranking": of.ranking.name,
        "country": country,
        "window_start": bounds[0],
        "window_end": bounds[1],
        "revision": window.revision,
        "status": window.status,
        "watermark": watermark_ms,
        "as_of": now_ms,
        "entries": [
            {"rank": rank, "name": name, "total_sales": money(cents), "transaction_count": sales}
            for rank, (name, cents, sales) in enumerate(window.entries, start=1)
        ],
    }


def encoder(contract: Contract) -> Callable[[Mapping[str, Any]], bytes]:
    """A function from a record to the bytes of its value.

    The function raises ValueError where a record does not fit the schema.
    """
    header = struct.pack(">bI", 0, contract.schema_id)
    parsed = fastavro.parse_schema(dict(contract.schema))

    def encode(record: Mapping[str, Any]) -> bytes:
        buffer = io.BytesIO(header)
        buffer.seek(len(header))
        fastavro.schemaless_writer(buffer, parsed, record, strict=True)
        return buffer.getvalue()

    return encode
