"""CSV files of sales in the bucket: obstore's synchronous calls, for a thread (see chassis/s3.py)."""

import obstore
from obstore.exceptions import AlreadyExistsError
from obstore.store import S3Store


def has_csv(store: S3Store) -> bool:
    """Whether the bucket holds a CSV file."""
    return any(meta["path"].lower().endswith(".csv") for page in store.list(chunk_size=1000) for meta in page)


def upload_new(store: S3Store, key: str, content: bytes) -> bool:
    """Upload a file; False where the key is taken, which is left as it is."""
    try:
        obstore.put(store, key, content, mode="create")
    except AlreadyExistsError:
        return False
    return True
