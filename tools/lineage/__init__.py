"""The lineage graph in a terminal."""
