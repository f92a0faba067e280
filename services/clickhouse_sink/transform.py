"""Pure: decoded records become the rows of their table."""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from services.clickhouse_sink.columns import RangeError, same
from services.clickhouse_sink.mapping import Plan

Row = tuple[Any, ...]


class RejectedError(ValueError):
    """The record cannot be written into the table; the message names field, value and limit."""


def _row(plan: Plan, record: Mapping[str, Any], element: Mapping[str, Any] | None) -> Row:
    values = []
    for source in plan.sources:
        if source.of_element and element is None:
            values.append(source.blank)
            continue
        value = (element if source.of_element and element is not None else record)[source.name]
        try:
            values.append(source.convert(value))
        except RangeError as error:
            raise RejectedError(f"field {source.name}: {error}") from error
    return tuple(values)


def rows(plan: Plan, record: Mapping[str, Any]) -> list[Row]:
    """The rows of one record; `record` also holds $partition and $offset.

    A mapping with `each` always gives its full number of rows: a shorter set thus replaces a longer one completely.

    Raises:
        RejectedError: a value does not fit its column, or the elements are not counted 1, 2, 3 ... up to the limit.
    """
    each = plan.mapping.each
    if each is None:
        return [_row(plan, record, None)]
    elements = record[each.array]
    positions = [element[each.position] for element in elements]
    if len(elements) > each.rows or positions != list(range(1, len(elements) + 1)):
        raise RejectedError(
            f"field {each.array}: {each.position} must count from 1 to at most {each.rows}: {positions}"
        )
    filled = [_row(plan, record, element) for element in elements]
    empty = _row(plan, record, None)
    numbered = [
        index for index, source in enumerate(plan.sources) if source.of_element and source.name == each.position
    ]
    for position in range(len(elements) + 1, each.rows + 1):
        row = list(empty)
        for index in numbered:
            row[index] = position
        filled.append(tuple(row))
    return filled


def rows_of_each(plan: Plan, records: Sequence[Mapping[str, Any]]) -> list[list[Row] | RejectedError]:
    """For each record its rows, or why it has none; a table with one row per record is filled by column."""
    if plan.mapping.each is None:
        try:
            return [[row] for row in _by_column(plan, records)]
        except RangeError:
            pass  # whose value it is shows record by record
    results: list[list[Row] | RejectedError] = []
    for record in records:
        try:
            results.append(rows(plan, record))
        except RejectedError as error:
            results.append(error)
    return results


def _by_column(plan: Plan, records: Sequence[Mapping[str, Any]]) -> list[Row]:
    filled = []
    for source in plan.sources:
        values = list(map(itemgetter(source.name), records))
        filled.append(values if source.convert is same else list(map(source.convert, values)))
    return list(zip(*filled, strict=True))


def identity(plan: Plan, record: Mapping[str, Any]) -> tuple[Any, ...]:
    """What names the record's rows in the table."""
    return tuple([record[field] for field in plan.mapping.identity])


def newer(plan: Plan, record: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Whether `record` replaces `before`, of the same identity and read earlier; a tie keeps the first."""
    version = plan.mapping.version
    return version is not None and bool(record[version] > before[version])
