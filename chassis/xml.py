"""XML as HTTP carries it: in the encoding that the header names, else the one that the document names. Pure."""

import codecs
import re
from email.message import Message

# the name that Python has for each encoding that is read
ENCODINGS = frozenset({"utf-8", "utf-16", "utf-16-le", "utf-16-be", "iso8859-1", "iso8859-15", "cp1252", "ascii"})
_DECLARED = re.compile(rb"\s*<\?xml[^>]*?\sencoding\s*=\s*[\"']([^\"'>]*)")
_DECLARATION = re.compile(r"\s*<\?xml\s[^>]*\?>")


def _named(body: bytes, content_type: str) -> str:
    header = Message()
    header["content-type"] = content_type
    charset = header.get_param("charset")
    if isinstance(charset, str):
        return charset
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    declared = _DECLARED.match(body)
    return declared[1].decode("latin-1") if declared else "utf-8"


def as_utf_8(body: bytes, content_type: str) -> bytes:
    """The document in UTF-8, without a byte order mark and without an XML declaration.

    Raises:
        ValueError: the encoding is not one of ENCODINGS, or the bytes are not of it.
    """
    name = _named(body, content_type)
    try:
        encoding = codecs.lookup(name).name
    except (LookupError, ValueError):
        encoding = ""
    if encoding not in ENCODINGS:
        raise ValueError(f"the encoding {name[:40]!r} is none of {', '.join(sorted(ENCODINGS))}")
    try:
        document = body.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not {encoding}") from error
    return _DECLARATION.sub("", document, count=1).encode() if _DECLARATION.match(document) else document.encode()
