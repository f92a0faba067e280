"""Exports what servers without /metrics report of themselves, consumer lag, and the age of the rankings."""
