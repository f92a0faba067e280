"""The bucket as the poller sees it: pages of objects, and the bytes of one version of one object.

obstore's synchronous calls, in threads: see chassis/s3.py.
"""

import asyncio
from collections.abc import AsyncIterator

from obstore.exceptions import NotFoundError
from obstore.store import S3Store

from chassis.s3 import Unreachable
from services.file_poller.transform import Found, etag_value


class TruncatedError(Exception):
    """The store gave fewer bytes than the listing promised."""


Unreadable = (*Unreachable, TruncatedError)
Gone = (NotFoundError, FileNotFoundError)


async def pages(store: S3Store, prefix: str, size: int) -> AsyncIterator[list[Found]]:
    """The bucket's objects, at most `size` at once.

    Raises:
        one of Unreachable: the store is unavailable, or rejects us.
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
