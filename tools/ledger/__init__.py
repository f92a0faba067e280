"""Compares what the sources hold with what became of it, step by step."""
