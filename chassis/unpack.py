"""Unpacks gzip as it streams, in bounded memory; other bytes pass as they are."""

import zlib
from collections.abc import Iterable, Iterator

MAGIC = b"\x1f\x8b"
STEP = 1024 * 1024  # bytes unpacked at once, however well they were packed
_GZIP = 16 + zlib.MAX_WBITS


class UnpackError(Exception):
    """The packed bytes are damaged or end too early."""


class Unpacker:
    """Feed it chunks in order, then `finish`. Several gzip members behind each other are one content."""

    def __init__(self) -> None:
        self._member: zlib._Decompress | None = None
        self._packed: bool | None = None
        self._begin = b""

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """What `chunk` unpacks to, at most STEP bytes at once.

        Raises:
            UnpackError: the bytes are damaged.
        """
        if self._packed is None:
            self._begin += chunk
            if len(self._begin) < len(MAGIC):
                return
            self._packed, chunk, self._begin = self._begin.startswith(MAGIC), self._begin, b""
        if not self._packed:
            yield chunk
            return
        while chunk:
            if self._member is None:
                chunk = chunk.lstrip(b"\0")  # zeros may fill up the member before
                if not chunk:
                    return
                self._member = zlib.decompressobj(_GZIP)
            try:
                part = self._member.decompress(chunk, STEP)
            except zlib.error as error:
                raise UnpackError(f"the gzip content is damaged: {error}") from error
            if part:
                yield part
            chunk = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            if self._member.eof:
                self._member = None

    def finish(self) -> bytes:
        """What is left where the content is shorter than a magic number.

        Raises:
            UnpackError: the content ends within a gzip member.
        """
        if self._member is not None:
            raise UnpackError("the gzip content ends too early")
        return self._begin


def unpacked(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The content of chunks in order.

    Raises:
        UnpackError: it is damaged, or ends too early.
    """
    unpacker = Unpacker()
    for chunk in chunks:
        yield from unpacker.feed(chunk)
    if rest := unpacker.finish():
        yield rest
