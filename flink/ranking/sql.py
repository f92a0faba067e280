"""The statements of the job: per sale the work is SQL, from upserts to absolute totals.

Why not window functions: they drop what comes after the watermark. Here nothing is ever too late. Why upserts of whole
totals: between a retraction and its replacement a ranking made of increments would be wrong for a moment.
"""

from collections.abc import Sequence

from flink.ranking.configuration import Configuration
from flink.ranking.definitions import Board
from flink.ranking.windows.length import WindowLength

CLOCK_INDEX = -1
"""The window index of rows that carry a source's clock: `name` is the source, `total` its newest epoch ms."""

TOTALS_COLUMNS = (
    ("board", "STRING NOT NULL"),
    ("country", "STRING NOT NULL"),
    ("window_index", "BIGINT NOT NULL"),
    ("name", "STRING NOT NULL"),
    ("total", "STRING"),
    ("sales", "BIGINT"),
)
TOTALS_KEY = ("board", "country", "window_index", "name")


def _text(value: str) -> str:
    return "CAST('" + value.replace("'", "''") + "' AS STRING)"


def _ranked(boards: Sequence[Board]) -> list[str]:
    return list(dict.fromkeys(board.ranking.column for board in boards))


def sales_table(configuration: Configuration, boards: Sequence[Board]) -> str:
    """The source: `sales.unified` with the fields that are needed, from the earliest where no state says otherwise.

    Times are read as the epoch milliseconds that they are in the record, without a detour over a timestamp type.
    """
    ranked = ", ".join(f"{column} STRING" for column in _ranked(boards))
    return f"""CREATE TEMPORARY TABLE sales (
  sale_id STRING, source STRING, {ranked}, country STRING, amount DECIMAL(18, 2),
  event_time BIGINT, ingestion_time BIGINT, version BIGINT, deleted BOOLEAN
) WITH (
  'connector' = 'kafka', 'topic' = 'sales.unified',
  'properties.bootstrap.servers' = '{configuration.kafka}', 'properties.group.id' = 'ranking',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'avro-confluent', 'avro-confluent.url' = '{configuration.registry_url}'
)"""


def sets_table(configuration: Configuration, topics: Sequence[str]) -> str:
    """The sink: ranking sets that the function has already written in the contract's schema."""
    return f"""CREATE TEMPORARY TABLE sets (
  record_key STRING NOT NULL, payload BYTES NOT NULL, topic STRING NOT NULL METADATA FROM 'topic'
) WITH (
  'connector' = 'kafka', 'topic' = '{";".join(topics)}',
  'properties.bootstrap.servers' = '{configuration.kafka}',
  'properties.acks' = 'all', 'properties.enable.idempotence' = 'true',
  'sink.delivery-guarantee' = 'at-least-once',
  'key.format' = 'raw', 'key.fields' = 'record_key', 'value.format' = 'raw', 'value.fields-include' = 'EXCEPT_KEY'
)"""


def window_index(length: WindowLength) -> str:
    """The expression for the index of the window that `event_time` (epoch ms) falls into."""
    if length.zone == "UTC":
        return f"event_time / {length.seconds * 1000}"
    local = f"CONVERT_TZ(FROM_UNIXTIME(event_time / 1000), 'UTC', '{length.zone}')"
    # The session's time zone is UTC, so reading the local clock as if it were UTC gives seconds of that clock.
    return f"UNIX_TIMESTAMP({local}) / {length.seconds}"


def current_sales_view(boards: Sequence[Board]) -> str:
    """Each sale as it is now: its highest version, unless that one deletes it. A tie keeps the first."""
    return f"""CREATE TEMPORARY VIEW current_sales AS
SELECT {", ".join(_ranked(boards))}, country, amount, event_time FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY source, sale_id ORDER BY version DESC) AS place FROM sales
) WHERE place = 1 AND NOT deleted"""  # noqa: S608 - from our own table


def parts_view(boards: Sequence[Board]) -> str:
    """What each sale adds to each board.

    UNNEST and not UNION ALL, which would keep the state of `current_sales` once per branch.
    """
    rows = ",\n  ".join(
        f"ROW({_text(board.name)}, {'country' if board.ranking.per_country else _text('')}, "
        f"{window_index(board.window)}, {board.ranking.column}, amount)"
        for board in boards
    )
    return f"""CREATE TEMPORARY VIEW parts AS
SELECT p.board, p.part_country, p.window_index, p.name, p.part_amount
FROM current_sales CROSS JOIN UNNEST(ARRAY[
  {rows}
]) AS p(board, part_country, window_index, name, part_amount)"""  # noqa: S608 - from our own table


def totals_query(boards: Sequence[Board]) -> str:
    """Absolute totals of every name of every window, and the clock of every source for every board.

    Behind a mini-batch Flink's own watermark is the wall clock, so the sources' clocks travel as rows.
    """
    # `newest` is part of each row only because an array of constants would become a second, finite source with a join.
    clocks = ", ".join(f"ROW({_text(board.name)}, newest)" for board in boards)
    return f"""SELECT board, part_country AS country, window_index, name,
  CAST(SUM(part_amount) AS STRING) AS total, COUNT(*) AS sales
FROM parts GROUP BY board, part_country, window_index, name
UNION ALL
SELECT b.board, CAST('' AS STRING), CAST({CLOCK_INDEX} AS BIGINT), source, CAST(b.instant AS STRING), CAST(1 AS BIGINT)
FROM (
  SELECT source, MAX(LEAST(event_time, ingestion_time)) AS newest FROM sales WHERE NOT deleted GROUP BY source
) CROSS JOIN UNNEST(ARRAY[{clocks}]) AS b(board, instant)"""  # noqa: S608 - from our own table
