"""The native runtime: real servers from package registries, supervised, without Docker."""
