"""watch: the live rankings in a terminal, a client of the API's WebSocket."""
