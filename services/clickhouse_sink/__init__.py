"""Carries topics into ClickHouse tables, as mappings.yaml says."""
