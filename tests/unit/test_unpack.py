"""Unpacking gzip as it streams: the same content whatever the chunks, bounded, and damage is noticed."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.unpack import STEP, Unpacker, UnpackError, unpacked

PACKED = gzip.compress(b"sale_id,city\n" * 100, mtime=0)


def chunked(content: bytes, size: int) -> list[bytes]:
    """The content in chunks."""
    return [content[at : at + size] for at in range(0, len(content), size)]


@given(parts=st.lists(st.binary(max_size=200), min_size=1, max_size=4), size=st.integers(1, 60))
def test_members_are_one_content(parts: list[bytes], size: int) -> None:
    """Several gzip members behind each other, filled up with zeros, are one content in any chunks."""
    packed = b"".join(gzip.compress(part) for part in parts) + b"\0" * 10
    assert b"".join(unpacked(chunked(packed, size))) == b"".join(parts)


@given(
    content=st.binary(max_size=50).filter(lambda content: not content.startswith(b"\x1f\x8b")), size=st.integers(1, 9)
)
def test_what_is_not_packed_passes(content: bytes, size: int) -> None:
    """Bytes that are no gzip pass as they are."""
    assert b"".join(unpacked(chunked(content, size))) == content


def test_a_bomb_is_unpacked_in_steps() -> None:
    """Content of 300 MiB in 300 KiB comes in steps, of which none is larger than the bound."""
    bomb = gzip.compress(bytes(300 * STEP))
    largest, total = 0, 0
    for part in Unpacker().feed(bomb):
        largest, total = max(largest, len(part)), total + len(part)
    assert (largest, total) == (STEP, 300 * STEP)


@pytest.mark.parametrize(
    "damaged",
    [PACKED[:-9], PACKED[:12], PACKED[:20] + b"x" * 20, PACKED + b"garbage"],
    ids=["end", "header", "middle", "garbage"],
)
def test_damage_is_noticed(damaged: bytes) -> None:
    """Content that ends too early, or is no gzip after all, is an error and never a shorter content."""
    with pytest.raises(UnpackError):
        list(unpacked([damaged]))
