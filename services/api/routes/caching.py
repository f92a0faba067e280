"""Answers that clients may keep: a strong ETag of the bytes, 304, and for how long."""

import hashlib
import re

from fastapi import Response
from pydantic import BaseModel

from services.api.models import encode

ASK_AGAIN = "no-cache"
RARELY_CHANGES = "public, max-age=30, must-revalidate"
"""Of a final or corrected window requested by its start: a correction is seen after half a minute at the latest."""


def cached(body: BaseModel, have: str | None, cache: str = ASK_AGAIN) -> Response:
    """The body with an ETag of exactly these bytes, or 304 where the client has them (`have`: If-None-Match)."""
    content = encode(body)
    tag = f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'
    headers = {"ETag": tag, "Cache-Control": cache}
    if have is not None and (have.strip() == "*" or tag in re.findall(r'"[^"]*"', have)):  # W/ makes no difference
        return Response(status_code=304, headers=headers)
    return Response(content, 200, headers, "application/json")
