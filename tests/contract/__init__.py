"""Every example of a contract through every schema and consumer."""
