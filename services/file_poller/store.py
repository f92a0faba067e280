"""The content of one version of one object as a stream of unpacked bytes, and of CSV records."""

from collections.abc import AsyncGenerator, AsyncIterator

from chassis.s3 import Bucket, UnreachableError
from chassis.s3_protocol import Object
from chassis.unpack import Unpacker
from services.file_poller.splitter import Raw, Splitter


async def _chunks(bucket: Bucket, listed: Object, start: int, size: int) -> AsyncIterator[bytes]:
    """The object's bytes from `start`, at most `size` per request, all of the version that was listed.

    One request per chunk rather than one long answer: a slow broker holds no connection open past its timeout, and
    each chunk names the same entity tag, so that an upload in between is noticed.
    """
    while start < listed.size:
        chunk = await bucket.read(listed.key, start, min(start + size, listed.size), listed.etag)
        if not chunk:
            raise UnreachableError(f"no bytes at {start} of {listed.size}")
        yield chunk
        start += len(chunk)


async def content(bucket: Bucket, listed: Object, offset: int, size: int) -> AsyncGenerator[bytes, None]:
    """The object's content from `offset`, unpacked where it is gzip; `offset` then counts unpacked bytes.

    Raises:
        UnpackError: it is damaged, or ends too early.
        ChangedError | GoneError | UnreachableError: see `Bucket.read`.
    """
    packed = listed.key.lower().endswith(".gz")
    unpacker, skip = Unpacker(), offset if packed else 0
    async for chunk in _chunks(bucket, listed, 0 if packed else offset, size):
        for part in unpacker.feed(chunk) if packed else (chunk,):
            if len(part) > skip:
                yield part[skip:]
            skip = max(0, skip - len(part))
    if rest := unpacker.finish():
        yield rest[skip:]


async def records(head: bytes, chunks: AsyncIterator[bytes], offset: int) -> AsyncIterator[Raw]:
    """The CSV records of `head` and what follows it, of which the first begins at `offset`.

    Raises:
        what the chunks raise.
    """
    splitter = Splitter(offset)
    for raw in splitter.feed(head):
        yield raw
    async for chunk in chunks:
        for raw in splitter.feed(chunk):
            yield raw
    for raw in splitter.finish():
        yield raw
