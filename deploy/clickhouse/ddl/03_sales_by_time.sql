-- Which sales happened when, so that the sales of a window are found without reading all others. It names candidates
-- only: an update may have moved a sale to another time and left the row of the old one here, so what a sale is now is
-- in `sales`. The view fills it from every insert; services/clickhouse_sink/backfill.py copies what was there before.
CREATE TABLE IF NOT EXISTS sales_by_time
(
    event_time_ms Int64,
    source String,
    sale_id String,
    salesman_name String,
    city String,
    country String,
    product String,
    version UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (event_time_ms, source, sale_id)
SETTINGS index_granularity = 1024;

CREATE MATERIALIZED VIEW IF NOT EXISTS sales_to_time TO sales_by_time
AS SELECT event_time_ms, source, sale_id, salesman_name, city, country, product, version FROM sales;

-- How far a table has been filled from another: the sales before this time are in it.
CREATE TABLE IF NOT EXISTS backfills
(
    table String,
    before_ms Int64
)
ENGINE = ReplacingMergeTree(before_ms)
ORDER BY table;
