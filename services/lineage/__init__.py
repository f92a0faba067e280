"""Takes OpenLineage events, answers what clients of Marquez ask of its HTTP API, and draws the graph on a page."""
