"""Alerts: rules under `promtool`, and under injected faults (`task test:alerts`)."""
