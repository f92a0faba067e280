"""The bucket: `Bucket` lists and reads whatever its objects are called; `bucket` is obstore's client, for the rest.

obstore rejects a whole page of a listing for one key that its paths cannot hold (a tab, an empty segment, `..`), so the
listing here is S3's own ListObjectsV2. Of obstore only the synchronous calls are used, in threads: its asynchronous
ones call back into Python from threads of their own, and one in eight processes that used them aborted (signal 6) when
the interpreter ended.
"""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import aiohttp
import tenacity
from obstore.exceptions import BaseError
from obstore.store import S3Store
from yarl import URL

from chassis.s3_protocol import ListingError, Object, page_of, signed
from chassis.settings import S3Settings
from contracts.text import quoted

SETTING = "S3_ENDPOINT, S3_PORT, S3_BUCKET, S3_ACCESS_KEY, S3_SECRET_KEY"
TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=5)
ATTEMPTS = 4


class UnreachableError(Exception):
    """The store is unavailable, or rejects us."""


class ChangedError(Exception):
    """The object is another version now."""


class GoneError(Exception):
    """There is no such object."""


# obstore raises Python's own FileNotFoundError and PermissionError (an OSError) for some answers
Unreachable = (UnreachableError, BaseError, OSError)
OUTCOMES: Mapping[int, type[Exception]] = {404: GoneError, 412: ChangedError}


class Bucket:
    """Reads one bucket; a request is tried again for some seconds, then its error is raised."""

    def __init__(self, settings: S3Settings, session: aiohttp.ClientSession) -> None:
        self._session, self._settings = session, settings

    async def _get(self, key: str, query: Mapping[str, str], headers: Mapping[str, str]) -> bytes:
        path = quote(f"/{self._settings.bucket}" + (f"/{key}" if key else ""), safe="/-_.~")
        search = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(query.items()))
        url = URL(f"{self._settings.endpoint.rstrip('/')}{path}" + (f"?{search}" if search else ""), encoded=True)
        headers = signed(self._settings, "GET", path, search, headers, now=datetime.now(UTC))
        try:
            async with self._session.get(url, headers=headers) as response:
                body = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise UnreachableError(repr(error)) from error
        if response.status in OUTCOMES and key:
            raise OUTCOMES[response.status](key)
        if response.status >= 300:
            raise UnreachableError(f"status {response.status}: {quoted(body[:200], 200)}")
        return body

    async def _tried(self, key: str, query: Mapping[str, str], headers: Mapping[str, str]) -> bytes:
        retrying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            wait=tenacity.wait_exponential(multiplier=0.1, max=2),
            retry=tenacity.retry_if_exception_type(UnreachableError),
            reraise=True,
        )
        result: bytes = await retrying(self._get, key, query, headers)
        return result

    async def pages(self, prefix: str = "", size: int = 1000) -> AsyncIterator[list[Object]]:
        """The objects whose keys begin with `prefix`, at most `size` at once.

        Raises:
            UnreachableError: the store is unavailable, or rejects us.
        """
        query = {"list-type": "2", "max-keys": str(size), "prefix": prefix}
        token: str | None = ""
        while token is not None:
            answer = await self._tried("", {**query, "continuation-token": token} if token else query, {})
            try:
                objects, token = page_of(answer)
            except ListingError as error:
                raise UnreachableError(str(error)) from error
            yield objects

    async def read(self, key: str, start: int, end: int, etag: str) -> bytes:
        """The bytes from `start` up to `end` of the version that has this entity tag (any, where it is empty).

        Raises:
            ChangedError: the object is another version now.
            GoneError: it is not there any more.
            UnreachableError: the store is unavailable, or rejects us.
        """
        match = etag if re.fullmatch(r'(W/)?".*"', etag) else f'"{etag}"'
        headers = {"range": f"bytes={start}-{end - 1}", **({"if-match": match} if etag else {})}
        return await self._tried(key, {}, headers)


@asynccontextmanager
async def open_bucket(settings: S3Settings) -> AsyncIterator[Bucket]:
    """A `Bucket` while the context lasts."""
    async with aiohttp.ClientSession(timeout=TIMEOUT, auto_decompress=False) as session:
        yield Bucket(settings, session)


def bucket(settings: S3Settings) -> S3Store:
    """obstore's client of the bucket; a request is tried again for some seconds, then its error is raised."""
    return S3Store(
        settings.bucket,
        endpoint=settings.endpoint,
        region=settings.region,
        access_key_id=settings.access_key,
        secret_access_key=settings.secret_key.get_secret_value(),
        virtual_hosted_style_request=False,
        client_options={"allow_http": True, "timeout": "30s", "connect_timeout": "5s"},
        retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=15)},
    )
