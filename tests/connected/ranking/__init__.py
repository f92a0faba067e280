"""The rankings that Placar serves, from `sales.unified` to REST, against the batch oracle."""
