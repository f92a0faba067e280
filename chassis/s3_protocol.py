"""S3's protocol without I/O: what the listing describes, how a request is signed, what an answer lists."""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from lxml import etree

from chassis.settings import S3Settings
from contracts.text import quoted
from contracts.time import parse_instant, to_ms

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
# what XML 1.0 cannot hold, as a byte or as a reference; with it replaced, a key is not the key of any object
_NOT_XML = re.compile(
    rb"[\0-\x08\x0b\x0c\x0e-\x1f]|&#(?:x0*(?:[0-8BCEFbcef]|1[0-9A-Fa-f])|0*(?:[0-8]|1[124-9]|2[0-9]|3[01]));"
)


class ListingError(Exception):
    """An answer lists no objects."""


@dataclass(frozen=True)
class Object:
    """An object as the listing describes it; `last_modified` in ms since 1970."""

    key: str
    etag: str
    last_modified: int
    size: int


def signed(
    settings: S3Settings, method: str, path: str, query: str, headers: Mapping[str, str], *, now: datetime
) -> dict[str, str]:
    """The headers (in lower case) with those that sign the request: AWS Signature Version 4.

    The request has no body, or `headers` say what stands for it in `x-amz-content-sha256`.
    """
    date = now.strftime("%Y%m%dT%H%M%SZ")
    own = {"host": urlsplit(settings.endpoint).netloc, "x-amz-content-sha256": EMPTY_SHA256, "x-amz-date": date}
    every = dict(sorted({**own, **headers}.items()))
    names = ";".join(every)
    lines = [method, path, query, *(f"{name}:{value}" for name, value in every.items()), "", names]
    canonical = "\n".join([*lines, every["x-amz-content-sha256"]])
    scope = f"{date[:8]}/{settings.region}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", date, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{settings.secret_key.get_secret_value()}".encode()
    for part in (*scope.split("/"), text):
        key = hmac.digest(key, part.encode(), "sha256")
    credential = f"{settings.access_key}/{scope}"
    every["authorization"] = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={key.hex()}"
    return every


def page_of(answer: bytes) -> tuple[list[Object], str | None]:
    """The objects of one answer to ListObjectsV2, and the token of the next page where there is one.

    Raises:
        ListingError: it is no such answer.
    """
    parser = etree.XMLParser(resolve_entities=False, load_dtd=False, no_network=True, huge_tree=False)
    try:
        listing = etree.fromstring(_NOT_XML.sub(b"\xef\xbf\xbd", answer), parser)
        objects = [
            Object(
                each.findtext("{*}Key", ""),
                each.findtext("{*}ETag", ""),
                to_ms(parse_instant(each.findtext("{*}LastModified", ""))),
                int(each.findtext("{*}Size", "")),
            )
            for each in listing.iterfind("{*}Contents")
        ]
    except (etree.XMLSyntaxError, ValueError) as error:
        raise ListingError(f"no listing: {error}; it begins {quoted(answer[:200], 200)}") from error
    more = listing.findtext("{*}IsTruncated") == "true"
    return objects, listing.findtext("{*}NextContinuationToken") if more else None
