"""The ranking job: `sales.unified` in, whole ranking sets out."""
