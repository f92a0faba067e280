"""The unit cdc: changes of the Postgres table, as Debezium captures them, into `sales.unified`."""
