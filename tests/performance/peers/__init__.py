"""The work of the service cdc in other libraries, which have an environment of their own (requirements.lock)."""
