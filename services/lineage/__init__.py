"""Receives OpenLineage events, answers the part of Marquez's HTTP API that its clients use, and draws the graph."""
