"""How Placar runs: the native runtime and the configuration of each server."""
