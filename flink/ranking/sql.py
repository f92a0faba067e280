"""The statements of the job: per sale the work is SQL, from upserts to absolute totals.

Why not window functions: they drop what comes after the watermark. Here nothing is ever too late. Why upserts of whole
totals: between a retraction and its replacement a ranking made of increments would be wrong for a moment.
"""

from collections.abc import Sequence

from contracts.rankings import RankingWindow
from contracts.windows import WindowLength
from flink.ranking.configuration import Configuration

SEPARATOR = "|"
CLOCK = "@"
"""How the key of a source's clock begins; the source follows, and the total is its newest epoch ms."""

FETCH_WAIT_MS = 2_000
"""So long the broker keeps a fetch that finds nothing; one that comes to find something is answered at once."""

TOTALS_COLUMNS = (("ranking_window", "STRING NOT NULL"), ("entry", "STRING"), ("total_key", "STRING NOT NULL"))
"""The function sees the first two: the ranking window to which the row belongs, and its total."""
TOTALS_KEY = ("total_key",)


def _text(value: str) -> str:
    return "CAST('" + value.replace("'", "''") + "' AS STRING)"


def _columns(windows: Sequence[RankingWindow], *before: str) -> list[str]:
    """The text columns that the rankings need, each once: `before`, the competitors', the country."""
    return list(dict.fromkeys([*before, *(window.ranking.column for window in windows), "country"]))


def sales_table(configuration: Configuration, windows: Sequence[RankingWindow]) -> str:
    """The source: `sales.unified` with the fields that are needed, from the earliest where no state says otherwise.

    Times are read as the epoch milliseconds that they are in the record, without a detour over a timestamp type.
    """
    columns = ", ".join(f"{column} STRING" for column in _columns(windows, "sale_id", "source"))
    return f"""CREATE TEMPORARY TABLE sales (
  {columns}, amount DECIMAL(18, 2), event_time BIGINT, ingestion_time BIGINT, version BIGINT, deleted BOOLEAN
) WITH (
  'connector' = 'kafka', 'topic' = 'sales.unified',
  'properties.bootstrap.servers' = '{configuration.kafka}', 'properties.group.id' = '{configuration.group}',
  'scan.startup.mode' = 'earliest-offset', 'properties.isolation.level' = 'read_committed',
  'properties.fetch.max.wait.ms' = '{FETCH_WAIT_MS}',
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


def current_sales_view(windows: Sequence[RankingWindow]) -> str:
    """Each sale as it is now: its highest version, unless that one deletes it. A tie keeps the first."""
    return f"""CREATE TEMPORARY VIEW current_sales AS
SELECT {", ".join(_columns(windows))}, amount, event_time FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY source, sale_id ORDER BY version DESC) AS newest FROM sales
) WHERE newest = 1 AND NOT deleted"""  # noqa: S608 - from our own table


def parts_view(windows: Sequence[RankingWindow]) -> str:
    """What adds to each total, by its key: `ranking window|country|window index|name`, or `ranking window|@source`.

    The latter are the sources' clocks. They travel this way because behind a mini-batch Flink's own watermark is the
    wall clock, and are added up as if they were totals (of one number), so that everything is one aggregate: over a
    union of two, Flink no longer knows the key of a row and sends each change twice, as the row before and after it.

    Each version of a sale also adds zero, for ever, to the totals that it names. So a total that falls to zero is a row
    with zero sales and not the end of a row, and a window that lost all its sales still gets an update.

    UNNEST and not UNION ALL over ranking windows, which would keep the state of `current_sales` once per branch. Of
    texts and not of rows, which Flink would write into the array and read from it column by column.
    """

    def total_key(window: RankingWindow) -> str:
        country = "country" if window.ranking.per_country else _text("")
        index = f"CAST({window_index(window.window)} AS STRING)"
        parts = f"{_text(window.name)}, {country}, {index}, {window.ranking.column}"
        return f"COALESCE(CONCAT({_text(window.name + SEPARATOR)}, clock), CONCAT_WS('{SEPARATOR}', {parts}))"

    keys = ",\n  ".join(total_key(window) for window in windows)
    fields = ", ".join([*_columns(windows), "event_time"])
    nothing = ", ".join([*(f"{_text('')} AS {column}" for column in _columns(windows)), "0 AS event_time"])
    return f"""CREATE TEMPORARY VIEW parts AS
SELECT k.total_key, part.amount, part.sales
FROM (
  SELECT CAST(NULL AS STRING) AS clock, {fields}, amount, CAST(1 AS BIGINT) AS sales FROM current_sales
  UNION ALL
  SELECT CAST(NULL AS STRING), {fields}, CAST(0 AS DECIMAL(18, 2)), CAST(0 AS BIGINT) FROM sales WHERE NOT deleted
  UNION ALL
  SELECT CONCAT('{CLOCK}', source), {nothing}, CAST(newest AS DECIMAL(18, 2)), CAST(1 AS BIGINT) FROM (
    SELECT source, MAX(LEAST(event_time, ingestion_time)) AS newest FROM sales WHERE NOT deleted GROUP BY source
  )
) AS part CROSS JOIN UNNEST(ARRAY[
  {keys}
]) AS k(total_key)"""  # noqa: S608 - from our own table


TOTALS_QUERY = f"""SELECT SPLIT_INDEX(total_key, '{SEPARATOR}', 0) AS ranking_window,
  CONCAT_WS('{SEPARATOR}', CAST(SUM(amount) AS STRING), CAST(SUM(sales) AS STRING),
    SUBSTRING(total_key FROM POSITION('{SEPARATOR}' IN total_key) + 1)) AS entry, total_key
FROM parts GROUP BY total_key"""  # noqa: S608 - from our own table
"""The absolute total of every key, in an entry `total|sales|key` whose key is without the ranking window.

An entry is one text, as each column of a row costs on its way into Python.
"""
