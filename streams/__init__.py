"""Faust units: a raw topic in, `sales.unified` out."""
