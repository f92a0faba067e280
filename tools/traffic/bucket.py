"""CSV files of sales in the bucket.

obstore's synchronous calls, in threads: see chassis/s3.py.
"""

import asyncio

import obstore
from obstore.exceptions import AlreadyExistsError
from obstore.store import S3Store


async def has_csv(store: S3Store) -> bool:
    """Whether the bucket holds a CSV file."""

    def any_csv() -> bool:
        return any(meta["path"].lower().endswith(".csv") for page in store.list(chunk_size=1000) for meta in page)

    return await asyncio.to_thread(any_csv)


async def upload(store: S3Store, key: str, content: bytes) -> None:
    """Upload a file; an older one under the same key is replaced."""
    await asyncio.to_thread(obstore.put, store, key, content)


async def upload_new(store: S3Store, key: str, content: bytes) -> bool:
    """Upload a file; False where the key is taken, which is left as it is."""
    try:
        await asyncio.to_thread(obstore.put, store, key, content, mode="create")
    except AlreadyExistsError:
        return False
    return True
