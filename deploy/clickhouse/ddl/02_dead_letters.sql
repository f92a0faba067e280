-- Dead letters, one row per record of sales.dlq, identified by its partition and offset there: a repeat replaces itself.
CREATE TABLE IF NOT EXISTS dead_letters
(
    dlq_partition Int32,
    dlq_offset Int64,
    topic String,
    partition Int32,
    offset Int64,
    key Nullable(String),
    value Nullable(String),
    reason String,
    detail String,
    unit String,
    attempt Int32,
    time_ms Int64,
    time DateTime('UTC') ALIAS toDateTime(intDiv(time_ms, 1000), 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY (dlq_partition, dlq_offset);
