"""The endpoints, a router for each kind."""
