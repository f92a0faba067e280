"""How an Avro value becomes a ClickHouse value: which types fit each other, and the conversion with its limits."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from contracts.time import to_ms

Convert = Callable[[Any], Any]

LAST_SECOND = 2**32 - 1  # DateTime is an unsigned 32-bit count of seconds

_INTEGER = re.compile(r"(U?)Int(8|16|32|64)")
_DECIMAL = re.compile(r"Decimal\((\d+), *(\d+)\)")


class MismatchError(Exception):
    """An Avro type that a column cannot hold, whatever the value."""


class RangeError(ValueError):
    """A value that its column cannot hold."""


@dataclass(frozen=True)
class Avro:
    """An Avro type as the mapping needs it: its kind, whether it may be null, and a decimal's scale."""

    kind: str
    nullable: bool = False
    scale: int = 0


def avro_type(declared: Any) -> Avro:
    """The type behind a field's declaration: a primitive, a logical type, or a union of null and one of them.

    Raises:
        MismatchError: a type that no column can hold (array, record, other unions).
    """
    if isinstance(declared, list):
        others = [branch for branch in declared if branch != "null"]
        if len(others) != 1:
            raise MismatchError(f"union {declared} is not null and one other type")
        inner = avro_type(others[0])
        return Avro(inner.kind, nullable="null" in declared, scale=inner.scale)
    if isinstance(declared, Mapping):
        logical = declared.get("logicalType")
        return Avro(str(logical or declared["type"]), scale=int(declared.get("scale", 0)))
    return Avro(str(declared))


def _same(value: Any) -> Any:
    return value


def _integer(column: str) -> Convert | None:
    match = _INTEGER.fullmatch(column)
    if match is None:
        return None
    bits = int(match[2])
    low, high = (0, 2**bits - 1) if match[1] else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)

    def convert(value: int) -> int:
        if not low <= value <= high:
            raise RangeError(f"{value} is outside {low}..{high}")
        return value

    return convert


def _milliseconds(value: datetime) -> int:
    return to_ms(value)


def _seconds(value: datetime) -> int:
    seconds, rest = divmod(_milliseconds(value), 1000)
    if rest or not 0 <= seconds <= LAST_SECOND:
        raise RangeError(f"{value.isoformat()} is not a whole second from 1970 to 2106")
    return seconds


def _timestamp(column: str) -> Convert | None:
    return {"Int64": _milliseconds, "DateTime('UTC')": _seconds}.get(column)


def _decimal(scale: int) -> Callable[[str], Convert | None]:
    def decide(column: str) -> Convert | None:
        match = _DECIMAL.fullmatch(column)
        if match is None or int(match[2]) < scale:
            return None
        limit = Decimal(10) ** (int(match[1]) - int(match[2]))

        def convert(value: Decimal) -> Decimal:
            if not -limit < value < limit:
                raise RangeError(f"{value} has more than {int(match[1]) - int(match[2])} digits before the point")
            return value

        return convert

    return decide


def _text(column: str) -> Convert | None:
    return _same if column == "String" else None


def _boolean(column: str) -> Convert | None:
    return int if column == "UInt8" else None


_RULES: Mapping[str, Callable[[str], Convert | None]] = {
    "string": _text,
    "bytes": _text,
    "boolean": _boolean,
    "int": _integer,
    "long": _integer,
    "timestamp-millis": _timestamp,
}


def conversion(avro: Avro, column: str) -> Convert:
    """The conversion from an Avro type to a column type (as system.columns names it); it raises RangeError.

    Raises:
        MismatchError: the column cannot hold the type.
    """
    inner = column.removeprefix("Nullable(").removesuffix(")") if column.startswith("Nullable(") else column
    if avro.nullable and inner == column:
        raise MismatchError(f"{column} cannot hold null")
    rule = _decimal(avro.scale) if avro.kind == "decimal" else _RULES.get(avro.kind)
    convert = rule(inner) if rule else None
    if convert is None:
        scale = f" of scale {avro.scale}" if avro.kind == "decimal" else ""
        raise MismatchError(f"{column} cannot hold {avro.kind}{scale}")
    if not avro.nullable:
        return convert
    present = convert
    return lambda value: None if value is None else present(value)


def blank(column: str) -> Any:
    """The value of a column in a row that only fills up a set: empty text, zero, null or 1970."""
    if column.startswith("Nullable("):
        return None
    if column.startswith("Decimal("):
        return Decimal(0)
    return "" if column == "String" else 0
