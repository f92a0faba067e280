"""Deploys the Postgres connector to Kafka Connect, and keeps it running."""
