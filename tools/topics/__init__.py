"""Looks into topics and writes single records, for people who develop."""
