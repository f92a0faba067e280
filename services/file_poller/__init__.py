"""file_poller: CSV files of the object store, one record per row on `sales.files`."""
