"""What every process stands on: settings, logs, metrics, operations port, lineage, Kafka clients, dead letters."""
