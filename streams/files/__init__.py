"""The unit files: rows of CSV files into `sales.unified`."""
