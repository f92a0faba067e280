"""Bytes as people read them in a line: text where they are text, else hexadecimal, and no longer than it helps."""


def text(content: bytes) -> str | None:
    """Bytes as text where that is what they are: UTF-8 of printable characters and white space."""
    try:
        decoded = content.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return decoded if all(c.isprintable() or c in "\t\r\n" for c in decoded) else None


def shortened(line: str, limit: int) -> str:
    """At most so many characters."""
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


def shown(content: bytes | None, limit: int) -> str:
    """Bytes in one short line: as text where they are text, else in hexadecimal; a dash for none."""
    if content is None:
        return "-"
    said = text(content)
    line = content.hex() if said is None else said.replace("\r", "\\r").replace("\n", "\\n")
    return shortened(line, limit)
