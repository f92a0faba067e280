"""Becomes a database's own client, at the address and under the account of the settings."""
