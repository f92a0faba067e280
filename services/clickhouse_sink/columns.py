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


def _seconds(value: datetime) -> int:
    seconds, rest = divmod(to_ms(value), 1000)
    if rest or not 0 <= seconds <= LAST_SECOND:
        raise RangeError(f"{value.isoformat()} is not a whole second from 1970 to 2106")
    return seconds


def same(value: Any) -> Any:
    """The value as it is."""
    return value


# of the types that a column holds without conversion parameters: Avro's kind and ClickHouse's type
_PLAIN: Mapping[tuple[str, str], Convert] = {
    ("string", "String"): same,
    ("bytes", "String"): same,
    ("boolean", "UInt8"): int,
    ("timestamp-millis", "Int64"): to_ms,
    ("timestamp-millis", "DateTime('UTC')"): _seconds,
}


def _integer(unsigned: bool, bits: int) -> Convert:
    low, high = (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)

    def convert(value: int) -> int:
        if not low <= value <= high:
            raise RangeError(f"{value} is outside {low}..{high}")
        return value

    return convert


def _decimal(digits: int) -> Convert:
    limit = Decimal(10) ** digits

    def convert(value: Decimal) -> Decimal:
        if not -limit < value < limit:
            raise RangeError(f"{value} has more than {digits} digits before the point")
        return value

    return convert


def _present(avro: Avro, column: str) -> Convert | None:
    """The conversion of values that are not null, None where the column cannot hold them."""
    if avro.kind in ("int", "long") and (match := _INTEGER.fullmatch(column)):
        return _integer(bool(match[1]), int(match[2]))
    if avro.kind == "decimal" and (match := _DECIMAL.fullmatch(column)) and int(match[2]) >= avro.scale:
        return _decimal(int(match[1]) - int(match[2]))
    return _PLAIN.get((avro.kind, column))


def conversion(avro: Avro, column: str) -> Convert:
    """The conversion from an Avro type to a column type (as system.columns names it); it raises RangeError.

    Raises:
        MismatchError: the column cannot hold the type.
    """
    inner = column.removeprefix("Nullable(").removesuffix(")") if column.startswith("Nullable(") else column
    if avro.nullable and inner == column:
        raise MismatchError(f"{column} cannot hold null")
    convert = _present(avro, inner)
    if convert is None:
        scale = f" of scale {avro.scale}" if avro.kind == "decimal" else ""
        raise MismatchError(f"{column} cannot hold {avro.kind}{scale}")
    return (lambda value: None if value is None else convert(value)) if avro.nullable else convert


def blank(column: str) -> Any:
    """The value of a column in a row that only fills up a set: empty text, zero, null or 1970."""
    if column.startswith("Nullable("):
        return None
    if column.startswith("Decimal("):
        return Decimal(0)
    return "" if column == "String" else 0
