"""The operations dashboard: the pipeline's health as Prometheus knows it, and the runbook."""
