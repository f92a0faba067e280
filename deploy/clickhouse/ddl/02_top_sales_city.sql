-- The top ten cities of each window: always ten rows of one revision, blank (transaction_count = 0) beyond the
-- ranking's length, so that with FINAL a reader sees one whole revision, also of a ranking that shrinks or empties.
-- Small granules: a reader wants ten rows, and a granule is the least that is read.
CREATE TABLE IF NOT EXISTS top_sales_city
(
    window_start DateTime('UTC'),
    window_end DateTime('UTC'),
    rank UInt8,
    city String,
    total_sales Decimal(18, 2),
    transaction_count UInt32,
    revision UInt64,
    status String,
    watermark_ms Int64,
    as_of_ms Int64,
    watermark DateTime('UTC') ALIAS toDateTime(intDiv(watermark_ms, 1000), 'UTC'),
    as_of DateTime('UTC') ALIAS toDateTime(intDiv(as_of_ms, 1000), 'UTC'),
    updated_at DateTime('UTC') ALIAS toDateTime(intDiv(as_of_ms, 1000), 'UTC')
)
ENGINE = ReplacingMergeTree(revision)
ORDER BY (window_start, rank)
SETTINGS index_granularity = 256;
