-- The retailer's tables, and what change data capture needs. Safe to repeat.
CREATE TABLE IF NOT EXISTS salesman (
    id     bigserial PRIMARY KEY,
    name   varchar(255) NOT NULL,
    city   varchar(100) NOT NULL,
    region varchar(100),
    active boolean NOT NULL DEFAULT true
);

-- sale_date and created_at are UTC. A value that names a zone, now() among them, is stored in the zone of the session,
-- which drivers set by themselves: a new table takes no row from a session in another zone.
CREATE OR REPLACE FUNCTION reject_other_time_zones() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('TimeZone') NOT IN ('UTC', 'Etc/UTC', 'GMT', 'Etc/GMT', 'UCT', 'Etc/UCT', 'Zulu', 'Etc/Zulu') THEN
        RAISE EXCEPTION 'the session is in the time zone %, the times of sales are UTC', current_setting('TimeZone')
            USING HINT = 'SET TIME ZONE ''UTC'', and write the time in UTC';
    END IF;
    RETURN NULL;
END
$$;

DO $$
BEGIN
    IF to_regclass('sales') IS NULL THEN
        CREATE TABLE sales (
            id          bigserial PRIMARY KEY,
            salesman_id bigint NOT NULL REFERENCES salesman (id),
            salesman    varchar(255) NOT NULL,
            city        varchar(100) NOT NULL,
            country     varchar(3) NOT NULL DEFAULT 'BR',
            amount      decimal(12, 2) NOT NULL,
            product     varchar(255) NOT NULL,
            sale_date   timestamp NOT NULL,
            created_at  timestamp NOT NULL
        );
        CREATE TRIGGER sales_in_utc BEFORE INSERT OR UPDATE ON sales
            FOR EACH STATEMENT EXECUTE FUNCTION reject_other_time_zones();
    END IF;
END
$$;
ALTER TABLE sales ALTER COLUMN sale_date SET DEFAULT (now() AT TIME ZONE 'UTC');
ALTER TABLE sales ALTER COLUMN created_at SET DEFAULT (now() AT TIME ZONE 'UTC');

-- updates and deletes carry the whole row before the change
ALTER TABLE sales REPLICA IDENTITY FULL;

-- no value of Avro's decimal stands for NaN: the connector would stop at it
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_constraint WHERE conname = 'sales_amount_is_a_number') THEN
        ALTER TABLE sales ADD CONSTRAINT sales_amount_is_a_number CHECK (amount <> 'NaN') NOT VALID;
    END IF;
END
$$;

-- TRUNCATE says that rows are gone, not which: delete them one by one first, so that each deletion is captured
CREATE OR REPLACE FUNCTION delete_before_truncate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('DELETE FROM %I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME);
    RETURN NULL;
END
$$;
CREATE OR REPLACE TRIGGER sales_truncate BEFORE TRUNCATE ON sales EXECUTE FUNCTION delete_before_truncate();
ALTER TABLE sales ENABLE ALWAYS TRIGGER sales_truncate;

-- The connector's snapshot asks this. With a new slot Debezium reads under the slot's own snapshot, so that rows and
-- later changes fit together. With an older one, as after a kill in the middle of a snapshot, it reads the newest rows
-- and begins after them: what was deleted in between would stay for ever. Reject that; `task resnapshot` makes a new slot.
CREATE OR REPLACE FUNCTION debezium_slot_is_new() RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF current_setting('transaction_isolation') = 'read committed' THEN
        RAISE EXCEPTION 'the slot is older than the snapshot, deletions in between would be missed: run task resnapshot';
    END IF;
    RETURN true;
END
$$;

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
