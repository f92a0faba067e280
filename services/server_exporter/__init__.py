"""Exports what the servers that have no /metrics know of themselves, and how far each consumer is behind."""
