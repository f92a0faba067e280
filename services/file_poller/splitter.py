"""Cuts a stream of bytes into CSV records (RFC 4180), in bounded memory, keeping each record's own bytes."""

from collections.abc import Iterator
from dataclasses import dataclass

# A record and its dead letter must fit into the broker's default message.max.bytes (1,048,588) with their envelopes.
MAX_ROW_BYTES = 1_000_000
KEPT_BYTES = 64 * 1024

_QUOTE = ord('"')
_RESCANS = 100  # unclosed quotes per object after which each line stands alone: bounds the work that a bad file makes


@dataclass(frozen=True, slots=True)
class Raw:
    """One record: its bytes without the line ending, and the offset in the object where the next one begins.

    `fault` is '' for a record that can be parsed; `unclosed` is a line whose quote is never closed (the lines after it
    are read as records of their own); `long` is longer than MAX_ROW_BYTES, of which the first KEPT_BYTES are kept.
    """

    content: bytes
    end: int
    fault: str = ""


def quote_open(line: bytes, already: bool) -> bool:
    """Whether a quoted field is open at the end of `line`, when `already` tells whether one was open at its start.

    A quote opens a field only as its first character; within it two quotes are one (RFC 4180, 2.5 to 2.7).
    """
    at, size, inside = 0, len(line), already
    while at <= size:
        if not inside:
            if at < size and line[at] == _QUOTE:
                inside, at = True, at + 1
                continue
        else:
            close = line.find(b'"', at)
            if close < 0:
                return True
            if close + 1 < size and line[close + 1] == _QUOTE:
                at = close + 2
                continue
            inside, at = False, close + 1
        comma = line.find(b",", at)
        if comma < 0:
            return False
        at = comma + 1
    return inside


class Splitter:
    """Feed it chunks in order, then `finish`; each gives the records that are complete. Blank lines are no records."""

    def __init__(self, offset: int = 0, limit: int = MAX_ROW_BYTES) -> None:
        self._limit = limit
        self._buffer = b""
        self._scanned = 0  # bytes of the buffer that hold no newline
        self._end = offset  # offset in the object of the buffer's first byte
        self._lines: list[bytes] = []  # lines of the record whose quote is open
        self._held = 0  # their bytes
        self._kept: bytes | None = None  # head of an overlong line that is being skipped
        self._rescans = 0

    def feed(self, chunk: bytes) -> Iterator[Raw]:
        """The records that `chunk` completes."""
        self._buffer += chunk
        yield from self._split()
        if self._kept is not None:
            self._drop(len(self._buffer))
        elif len(self._buffer) > self._limit:
            while self._lines:
                yield from self._give_up()
            self._kept = self._buffer[:KEPT_BYTES]
            self._drop(len(self._buffer))

    def finish(self) -> Iterator[Raw]:
        """The last record, where no newline ends it."""
        while self._buffer or self._lines or self._kept is not None:
            if self._kept is not None:
                self._drop(len(self._buffer))
                yield Raw(self._kept, self._end, "long")
                self._kept = None
            elif self._buffer:
                last, self._buffer, self._scanned = self._buffer, b"", 0
                yield from self._line(last)
            if self._lines:
                yield from self._give_up()

    def _drop(self, size: int) -> None:
        self._end += size
        self._buffer, self._scanned = self._buffer[size:], 0

    def _split(self) -> Iterator[Raw]:
        """Take whole lines off the buffer; what follows the last newline stays."""
        while (newline := self._buffer.find(b"\n", self._scanned)) >= 0:
            last = self._buffer.rfind(b"\n", newline) + 1
            lines, rest = self._buffer[:last], self._buffer[last:]
            self._buffer, self._scanned = rest, len(rest)
            for line in lines[:-1].split(b"\n"):
                yield from self._line(line + b"\n")
        self._scanned = len(self._buffer)

    def _line(self, line: bytes) -> Iterator[Raw]:
        """Account for one physical line with its ending."""
        if self._kept is not None:
            self._end += len(line)
            yield Raw(self._kept, self._end, "long")
            self._kept = None
            return
        body = line.rstrip(b"\r\n")
        is_open = quote_open(body, bool(self._lines)) if self._lines or b'"' in line else False
        if is_open or self._lines:
            self._lines.append(line)
            self._held += len(line)
            if self._held > self._limit or self._rescans > _RESCANS:
                yield from self._give_up()
                return
            if is_open:
                return
            whole, self._lines, self._held = b"".join(self._lines), [], 0
            self._end += len(whole)
            yield Raw(whole.rstrip(b"\r\n"), self._end)
            return
        self._end += len(line)
        if len(body) > self._limit:
            yield Raw(body[:KEPT_BYTES], self._end, "long")
        elif body:
            yield Raw(body, self._end)

    def _give_up(self) -> Iterator[Raw]:
        """The open quote is never closed: reject the line that opened it, read the lines after it afresh."""
        first, *rest = self._lines
        self._lines, self._held = [], 0
        self._rescans += 1
        self._end += len(first)
        body = first.rstrip(b"\r\n")
        too_long = len(body) > self._limit
        yield Raw(body[:KEPT_BYTES] if too_long else body, self._end, "long" if too_long else "unclosed")
        for line in rest:
            yield from self._line(line)
