"""The metrics of the unit cdc, besides what every process has: those of every streams unit."""

from chassis import stream

METRICS = stream.METRICS
