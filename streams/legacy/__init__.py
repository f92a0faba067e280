"""The unit legacy: sales of the legacy SOAP service into `sales.unified`."""
