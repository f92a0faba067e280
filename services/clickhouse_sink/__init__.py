"""Writes topics into ClickHouse tables, as mappings.yaml and the table of rankings say."""
