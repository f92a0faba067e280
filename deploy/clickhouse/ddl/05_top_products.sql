-- The top ten products of each window; ten rows of one revision, as in top_sales_city.
CREATE TABLE IF NOT EXISTS top_products
(
    window_start DateTime('UTC'),
    window_end DateTime('UTC'),
    rank UInt8,
    product String,
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
