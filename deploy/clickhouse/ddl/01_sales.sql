-- Every sale as it is now: the record with the highest version per (source, sale_id) is the sale; read with FINAL.
-- Times are milliseconds since 1970, exact; the DateTime columns are the same instants for people, to the second.
-- Small granules: the sales behind a rank are a few keys far from each other, and a granule is the least that is read.
-- Not partitioned: an update may change the time of a sale, and rows of different partitions never replace each other.
CREATE TABLE IF NOT EXISTS sales
(
    sale_id String,
    source String,
    salesman_name String,
    city String,
    country String,
    amount Decimal(18, 2),
    product String,
    event_time_ms Int64,
    ingestion_time_ms Int64,
    version UInt64,
    deleted UInt8,
    event_time DateTime('UTC') ALIAS toDateTime(intDiv(event_time_ms, 1000), 'UTC'),
    ingestion_time DateTime('UTC') ALIAS toDateTime(intDiv(ingestion_time_ms, 1000), 'UTC')
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (source, sale_id)
SETTINGS index_granularity = 256;
