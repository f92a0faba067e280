"""Submits the ranking job to Flink, and keeps exactly one up-to-date copy of it running."""
