"""The layout of a sale's `version`, by source: packed by the streams services, unpacked by the tools that look back.

The highest version of a sale wins, so each grows with every change of the sale at its source and fits a signed long.
Where a source's clock is too coarse to tell two changes apart, what they say of the sale decides, whichever arrives
first; the last bits are a digest of the record, so that even changes of one moment and state seldom tie.
"""

import zlib
from datetime import datetime, timedelta

from contracts.time import EPOCH

MICROSECOND = timedelta(microseconds=1)
MAX_VERSION = 2**63 - 1
LSN_BITS = 56
ROW_BITS = 31
SHOPIFY_DIGEST_BITS = 10
STRIPE_PART_BITS, STRIPE_DIGEST_BITS = 23, 6


class VersionRangeError(ValueError):
    """A part of a version is outside its range; the message names the part and its value."""


def _checked(name: str, value: int, bits: int) -> int:
    if not 0 <= value < 1 << bits:
        raise VersionRangeError(f"{name} is {value}")
    return value


def pack_postgres(epoch: int, lsn: int) -> int:
    """The position in the database's log, under the epoch that is raised when the database is restored.

    Raises:
        VersionRangeError: outside 0 <= lsn < 2^56, or 0 <= epoch < 2^7.
    """
    return _checked("CDC_EPOCH", epoch, 63 - LSN_BITS) << LSN_BITS | _checked("source.lsn", lsn, LSN_BITS)


def unpack_postgres(version: int) -> tuple[int, int]:
    """Epoch and log position of a version of `pack_postgres`."""
    return version >> LSN_BITS, version & (1 << LSN_BITS) - 1


def pack_files(object_version: int, row_number: int) -> int:
    """The upload (its second, or more than that of the upload before), then the row.

    A later upload wins, and within one file the later row.

    Raises:
        VersionRangeError: outside 0 <= row_number < 2^31, or 0 <= object_version < 2^32.
    """
    upload = _checked("object_version", object_version, 63 - ROW_BITS)
    return upload << ROW_BITS | _checked("row_number", row_number, ROW_BITS)


def unpack_files(version: int) -> tuple[int, int]:
    """Object version and row number of a version of `pack_files`."""
    return version >> ROW_BITS, version & (1 << ROW_BITS) - 1


def _digest(body: bytes, bits: int) -> int:
    return zlib.crc32(body) >> 32 - bits


def pack_shopify(triggered_at: datetime, gone: bool, body: bytes) -> int:
    """When the event was triggered, in µs since 1970; of two in one microsecond the one by which the order is gone.

    Raises:
        VersionRangeError: before 1970, or 2^52 µs after it.
    """
    triggered = _checked("X-Shopify-Triggered-At", (triggered_at - EPOCH) // MICROSECOND, 62 - SHOPIFY_DIGEST_BITS)
    return (triggered << 1 | gone) << SHOPIFY_DIGEST_BITS | _digest(body, SHOPIFY_DIGEST_BITS)


def pack_stripe(created_s: int, body: bytes, *, payment: bool, amount: int, captured: int, refunded: int) -> int:
    """When the event was created, in seconds since 1970; of several in one second the one furthest in a charge's life.

    That is a charge that is a `payment` of an order, then the one with more refunded, then with more captured. Parts of
    the `amount` are told apart to 1/2^23 of it: exactly, where it is less than that many minor units.

    Raises:
        VersionRangeError: outside 0 <= created_s < 2^32.
    """
    part = min(refunded or captured, amount)
    share = part * ((1 << STRIPE_PART_BITS) - 1) // amount if amount else 0
    progress = (payment << 1 | (refunded > 0)) << STRIPE_PART_BITS | share
    created = _checked("created", created_s, 32)
    return (created << STRIPE_PART_BITS + 2 | progress) << STRIPE_DIGEST_BITS | _digest(body, STRIPE_DIGEST_BITS)
