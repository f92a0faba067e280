"""Values as people read them in a line: as they are where that is readable, and no longer than it helps."""

QUOTED = 60


def shortened(line: str, limit: int) -> str:
    """At most so many characters; the last three are dots where something is left out."""
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


def quoted(value: object, limit: int = QUOTED) -> str:
    """A value as Python writes it, shortened: for the message of an error."""
    return shortened(repr(value), limit)


def printable(content: bytes) -> str | None:
    """Bytes as text where that is what they are: UTF-8 of printable characters and white space."""
    try:
        decoded = content.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return decoded if all(c.isprintable() or c in "\t\r\n" for c in decoded) else None


def one_line(content: bytes | None, limit: int) -> str:
    """Bytes in one short line: as text where they are text, else in hexadecimal; a dash for none."""
    if content is None:
        return "-"
    decoded = printable(content)
    line = content.hex() if decoded is None else decoded.replace("\r", "\\r").replace("\n", "\\n")
    return shortened(line, limit)
