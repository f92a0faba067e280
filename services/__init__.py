"""Services that run all the time, besides the streams: pollers, sink, API, dashboard, reconcilers, lineage."""
