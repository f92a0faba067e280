"""Everything else that runs: pollers, the sink, the API, watchers, traffic."""
