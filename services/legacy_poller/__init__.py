"""legacy_poller: sales of the legacy SOAP service, one record per sale on `sales.legacy`."""
