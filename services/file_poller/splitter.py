"""Cuts a stream of bytes into CSV records (RFC 4180), in bounded memory, keeping each record's own bytes."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass

# A record and its dead letter must fit into the broker's default message.max.bytes (1,048,588) with their envelopes.
MAX_ROW_BYTES = 1_000_000
KEPT_BYTES = 64 * 1024

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
    csv.field_size_limit(MAX_ROW_BYTES + 1)
    text = ('"' if already else "") + line.decode("latin-1").replace("\r", " ")
    return len(list(csv.reader([text, "the next line"]))) == 1


class Splitter:
    """Feed it chunks in order, then `finish`; each gives the records that are complete. Blank lines are no records."""

    def __init__(self, offset: int = 0, limit: int = MAX_ROW_BYTES) -> None:
        self._limit = limit
        self._rest = b""  # the line that has not ended yet
        self._dropped = 0  # bytes of it that were not kept, because it is too long
        self._end = offset  # offset in the object of the first byte behind the records so far
        self._lines: list[bytes] = []  # lines of the record whose quote is open
        self._held = 0  # their bytes
        self._rescans = 0

    def feed(self, chunk: bytes) -> Iterator[Raw]:
        """The records that `chunk` completes."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            yield from self._line(line + b"\n")
        if len(self._rest) > self._limit:
            kept = self._rest[: min(self._limit, KEPT_BYTES)]
            self._dropped += len(self._rest) - len(kept)
            self._rest = kept

    def finish(self) -> Iterator[Raw]:
        """The last record, where no newline ends it."""
        last, self._rest = self._rest, b""
        if last:
            yield from self._line(last)
        while self._lines:
            yield from self._give_up()

    def _line(self, line: bytes) -> Iterator[Raw]:
        """Account for one physical line with its ending."""
        body = line.rstrip(b"\r\n")
        if self._dropped or len(body) > self._limit:
            size, self._dropped = len(line) + self._dropped, 0
            while self._lines:
                yield from self._give_up()
            self._end += size
            yield Raw(body[:KEPT_BYTES], self._end, "long")
            return
        is_open = (self._lines or b'"' in line) and quote_open(body, bool(self._lines))
        if is_open or self._lines:
            self._lines.append(line)
            self._held += len(line)
            if self._held > self._limit or self._rescans > _RESCANS:
                yield from self._give_up()
                return
            if is_open:
                return
            line, self._lines, self._held = b"".join(self._lines), [], 0
            body = line.rstrip(b"\r\n")
        self._end += len(line)
        if body:
            yield Raw(body, self._end)

    def _give_up(self) -> Iterator[Raw]:
        """The open quote is never closed: reject the line that opened it, read the lines after it afresh."""
        first, *rest = self._lines
        self._lines, self._held = [], 0
        self._rescans += 1
        self._end += len(first)
        yield Raw(first.rstrip(b"\r\n"), self._end, "unclosed")
        for line in rest:
            yield from self._line(line)
