-- The retailer's tables, and what change data capture needs. Safe to repeat.
CREATE TABLE IF NOT EXISTS salesman (
    id     bigserial PRIMARY KEY,
    name   varchar(255) NOT NULL,
    city   varchar(100) NOT NULL,
    region varchar(100),
    active boolean NOT NULL DEFAULT true
);

CREATE TABLE IF NOT EXISTS sales (
    id          bigserial PRIMARY KEY,
    salesman_id bigint NOT NULL REFERENCES salesman (id),
    salesman    varchar(255) NOT NULL,
    city        varchar(100) NOT NULL,
    country     varchar(3) NOT NULL DEFAULT 'BR',
    amount      decimal(12, 2) NOT NULL,
    product     varchar(255) NOT NULL,
    sale_date   timestamp NOT NULL DEFAULT now(),
    created_at  timestamp NOT NULL DEFAULT now()
);

-- updates and deletes carry the whole row before the change
ALTER TABLE sales REPLICA IDENTITY FULL;

-- written by the connector every few seconds, so that its slot advances while nobody sells
CREATE TABLE IF NOT EXISTS debezium_heartbeat (
    id integer PRIMARY KEY,
    ts timestamptz NOT NULL
);

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = 'debezium_sales_pub') THEN
        CREATE PUBLICATION debezium_sales_pub FOR TABLE sales, debezium_heartbeat;
    END IF;
END
$$;
