"""CSV files of sales in the bucket.

obstore's synchronous calls, in threads: its asynchronous ones call back into Python from threads of their own, and one
in eight processes that used them aborted (signal 6) when the interpreter ended.
"""

import asyncio
from datetime import timedelta

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from chassis.settings import S3Settings

SETTING = "S3_ENDPOINT, S3_PORT, S3_BUCKET, S3_ACCESS_KEY, S3_SECRET_KEY"
Unreachable = (BaseError, OSError)


def open_bucket(settings: S3Settings) -> S3Store:
    """A client of the bucket."""
    return S3Store(
        settings.bucket,
        endpoint=settings.endpoint,
        region=settings.region,
        access_key_id=settings.access_key,
        secret_access_key=settings.secret_key.get_secret_value(),
        virtual_hosted_style_request=False,
        client_options={"allow_http": True, "timeout": "30s", "connect_timeout": "5s"},
        retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=5)},
    )


async def has_csv(store: S3Store) -> bool:
    """Whether the bucket holds a CSV file."""

    def look() -> bool:
        return any(meta["path"].lower().endswith(".csv") for page in store.list(chunk_size=1000) for meta in page)

    return await asyncio.to_thread(look)


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
