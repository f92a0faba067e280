"""The layout of a sale's `version`, by source: packed by the streams services, unpacked by the tools that look back.

The highest version of a sale wins, so each grows with every change of the sale at its source and fits a signed long.
"""

MAX_VERSION = 2**63 - 1
LSN_BITS = 56
ROW_BITS = 31


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
