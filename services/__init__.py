"""What runs all the time besides the streams: pollers, the sink, the API, reconcilers, lineage, exporter."""
