"""S3's protocol: signatures as AWS documents them, and listings whatever the keys hold."""

from datetime import UTC, datetime

import pytest

from chassis.s3_protocol import ListingError, Object, page_of, signed
from chassis.settings import S3Settings

SETTINGS = S3Settings(
    endpoint="https://examplebucket.s3.amazonaws.com",
    access_key="AKIAIOSFODNN7EXAMPLE",
    secret_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
)
NOW = datetime(2013, 5, 24, tzinfo=UTC)


@pytest.mark.parametrize(
    ("path", "query", "more", "signature"),
    [
        (
            "/test.txt",
            "",
            {"range": "bytes=0-9"},
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        ("/", "lifecycle=", {}, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        ("/", "max-keys=2&prefix=J", {}, "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
    ],
)
def test_signatures(path: str, query: str, more: dict[str, str], signature: str) -> None:
    """A request is signed as in the examples of AWS's documentation of Signature Version 4."""
    headers = signed(SETTINGS, "GET", path, query, more, now=NOW)
    assert headers["authorization"].endswith(f"Signature={signature}")


def listing(keys: str, more: str = "<IsTruncated>false</IsTruncated>") -> bytes:
    """An answer to ListObjectsV2 with these keys, written as XML."""
    contents = "".join(
        f"<Contents><Key>{key}</Key><LastModified>2026-02-19T10:00:00.500Z</LastModified>"
        f"<ETag>&quot;e&quot;</ETag><Size>3</Size></Contents>"
        for key in keys.split("|")
    )
    return (
        f'<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{more}{contents}'
        "</ListBucketResult>".encode()
    )


def test_any_key_is_listed() -> None:
    """Keys with tabs, line breaks, empty segments and what XML cannot hold are listed beside the others."""
    page, token = page_of(
        listing("a.csv|x/tab&#x9;here.csv|x//../b.csv|c&#xA;d|e&#x1;f|g&#31;h|i\x02j|&#x1F600;|a+b c")
    )
    assert [one.key for one in page] == [
        *("a.csv", "x/tab\there.csv", "x//../b.csv", "c\nd", "e\ufffdf", "g\ufffdh", "i\ufffdj", "\U0001f600", "a+b c")
    ]
    assert page[0] == Object("a.csv", '"e"', 1771495200500, 3)
    assert token is None


def test_the_next_page_is_named() -> None:
    """A listing that goes on names the token of its next page."""
    more = "<IsTruncated>true</IsTruncated><NextContinuationToken>t/1+=</NextContinuationToken>"
    assert page_of(listing("a", more))[1] == "t/1+="


@pytest.mark.parametrize("answer", [b"", b"<html>busy", listing("a")[:-30], listing("a").replace(b">3<", b">many<")])
def test_another_answer_is_named(answer: bytes) -> None:
    """What is no listing is an error, never an empty bucket."""
    with pytest.raises(ListingError, match="no listing"):
        page_of(answer)
