"""legacy_soap: the legacy ERP's sales as a SOAP 1.1 service."""
