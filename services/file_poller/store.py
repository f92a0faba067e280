"""The bucket as the poller sees it: pages of objects, and the bytes of one version of one object.

obstore's synchronous calls, in threads: its asynchronous ones call back into Python from threads of their own, and one
in eight processes that used them aborted (signal 6) when the interpreter ended.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

from obstore.exceptions import BaseError, NotFoundError
from obstore.store import S3Store

from chassis.settings import S3Settings
from services.file_poller.transform import Found, etag_value

SETTING = "S3_ENDPOINT, S3_PORT, S3_BUCKET, S3_ACCESS_KEY, S3_SECRET_KEY"
REQUEST_TIMEOUT = "30s"
CONNECT_TIMEOUT = "5s"


class TruncatedError(Exception):
    """The store gave fewer bytes than the listing promised."""


# obstore raises Python's own FileNotFoundError and PermissionError (an OSError) for some answers
Unreachable = (BaseError, OSError)
Unreadable = (*Unreachable, TruncatedError)
Gone = (NotFoundError, FileNotFoundError)


def open_store(settings: S3Settings) -> S3Store:
    """A client of the bucket; a request is tried again for some seconds, then its error is raised."""
    return S3Store(
        settings.bucket,
        endpoint=settings.endpoint,
        region=settings.region,
        access_key_id=settings.access_key,
        secret_access_key=settings.secret_key.get_secret_value(),
        virtual_hosted_style_request=False,
        client_options={
            "allow_http": True,
            "timeout": REQUEST_TIMEOUT,
            "connect_timeout": CONNECT_TIMEOUT,
        },
        retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=15)},
    )


async def pages(store: S3Store, prefix: str, size: int) -> AsyncIterator[list[Found]]:
    """The bucket's objects, at most `size` at once.

    Raises:
        one of Unreachable: the store is away, or refuses us.
    """
    listing = await asyncio.to_thread(store.list, prefix or None, chunk_size=size)
    while True:
        page = await asyncio.to_thread(lambda: next(listing, []))
        if not page:
            return
        yield [
            Found(meta["path"], meta["e_tag"] or "", round(meta["last_modified"].timestamp() * 1000), meta["size"])
            for meta in page
        ]


def _read(store: S3Store, found: Found, start: int, end: int) -> bytes:
    match = etag_value(found.etag) if found.etag else None
    return bytes(store.get(found.key, options={"range": (start, end), "if_match": match}).bytes())


async def chunks(store: S3Store, found: Found, offset: int, size: int) -> AsyncIterator[bytes]:
    """The object's bytes from `offset`, at most `size` per request, all of the version that was listed.

    One request per chunk rather than one long answer: a slow broker holds no connection open past its timeout, and
    each chunk asks anew for the same entity tag, so that an upload in between is noticed.

    Raises:
        obstore.exceptions.PreconditionError: the object is another version now.
        one of Gone: the object is not there any more.
        one of Unreadable: it cannot be read.
    """
    at = offset
    while at < found.size:
        chunk = await asyncio.to_thread(_read, store, found, at, min(at + size, found.size))
        if not chunk:
            raise TruncatedError(f"no bytes at {at} of {found.size}")
        yield chunk
        at += len(chunk)
