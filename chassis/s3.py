"""The bucket: a client for obstore's synchronous calls, which callers run in threads.

Its asynchronous ones call back into Python from threads of their own, and one in eight processes that used them aborted
(signal 6) when the interpreter ended.
"""

from datetime import timedelta

from obstore.exceptions import BaseError
from obstore.store import S3Store

from chassis.settings import S3Settings

SETTING = "S3_ENDPOINT, S3_PORT, S3_BUCKET, S3_ACCESS_KEY, S3_SECRET_KEY"

# obstore raises Python's own FileNotFoundError and PermissionError (an OSError) for some answers
Unreachable = (BaseError, OSError)


def bucket(settings: S3Settings) -> S3Store:
    """A client of the bucket; a request is tried again for some seconds, then its error is raised."""
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
