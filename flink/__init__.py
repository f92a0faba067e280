"""The Flink side of Placar: runs in an environment of its own (see pyproject.toml beside this file)."""
