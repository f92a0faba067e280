"""One unit against real servers."""
