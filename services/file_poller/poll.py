"""One round after the other: list the bucket, read what is new or changed, publish rows, then progress."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from aiokafka import AIOKafkaProducer
from obstore.exceptions import PreconditionError
from obstore.store import S3Store

from chassis import dead_letters, kafka, progress, s3
from chassis.kafka import Record
from chassis.results import Rejected
from chassis.unit import Unit
from contracts.codec import Encoder
from services.file_poller import store as objects
from services.file_poller.metrics import FILES
from services.file_poller.settings import FilePollerSettings
from services.file_poller.splitter import KEPT_BYTES, Raw, Splitter
from services.file_poller.transform import (
    Found,
    Reading,
    file_sale,
    parse,
    pending,
    rejected_header,
    rejected_start,
    row_key,
)

TOPIC = "sales.files"
BATCH_BYTES = 4 * 1024 * 1024
UNREADABLE_ROUNDS = 3  # rounds in a row after which an object that cannot be read is also a dead letter


@dataclass(frozen=True)
class Encoders:
    """Writers of the topics that the poller publishes."""

    sale: Encoder
    dead_letter: Encoder
    progress: Encoder


class Poller:
    """Reads the bucket; `known` is what was read before, by key, and is kept up to date."""

    def __init__(
        self,
        unit: Unit,
        settings: FilePollerSettings,
        *,
        store: S3Store,
        client: AIOKafkaProducer,
        encoders: Encoders,
        known: dict[str, Reading],
    ) -> None:
        self._unit, self._settings, self._store = unit, settings, store
        self._client, self._encoders, self._known = client, encoders, known
        self._bucket = settings.s3.bucket
        self._failures: dict[str, int] = {}
        self._files = unit.metrics[FILES]

    async def run(self) -> None:
        """Poll until cancelled.

        Raises:
            KafkaError: the broker did not acknowledge; what it did not is read again after a restart.
        """
        while True:
            await self.round()
            await asyncio.sleep(self._settings.interval_s)

    async def round(self) -> None:
        """List once and read everything that is new; an object that cannot be read does not stop the others."""
        wanted = await self._listed()
        # versions are taken before the first row under them is published, all at once: one wait for many small files
        begun = {found.key: reading for found, reading in wanted if reading != self._known.get(found.key)}
        await kafka.publish(self._client, [self._progress(key, reading) for key, reading in begun.items()])
        self._known |= begun
        for found, reading in wanted:
            try:
                outcome = await self._read(found, reading)
                self._failures.pop(found.key, None)
            except PreconditionError:
                outcome = "changed"  # the next listing has its new version
            except objects.Gone:
                outcome = "vanished"
            except objects.Unreadable as error:
                outcome = "unreadable"
                await self._unreadable(found, error)
            self._files.inc({"outcome": outcome})
            self._unit.log.info("file", key=found.key, size=found.size, outcome=outcome)

    async def _listed(self) -> Sequence[tuple[Found, Reading]]:
        async def attempt() -> Sequence[tuple[Found, Reading]]:
            wanted = []
            async for page in objects.pages(self._store, self._settings.prefix, self._settings.page_keys):
                wanted += pending(page, self._known)
            return sorted(wanted, key=lambda pair: (pair[0].last_modified, pair[0].key))

        try:
            return await attempt()
        except s3.Unreachable as error:
            self._unit.log.warning("listing_failed", error=str(error))
        return await self._unit.connect("s3", self._settings.s3.endpoint, s3.SETTING, attempt, s3.Unreachable)

    async def _read(self, found: Found, reading: Reading) -> str:
        """Publish the rows of one object from where `reading` stands; returns `read` or `rejected`."""
        if found.size == 0:
            return await self._reject(found, reading, Rejected("file_empty", "0 bytes"), b"")
        splitter = Splitter(reading.offset)
        header_due = reading.offset == 0
        head = b""
        rows: list[Raw] = []
        held = 0
        at = reading.offset
        async for chunk in objects.chunks(self._store, found, reading.offset, self._settings.chunk_bytes):
            if at == 0:
                head = chunk[:KEPT_BYTES]
                if (rejection := rejected_start(head)) is not None:
                    return await self._reject(found, reading, rejection, head)
            at += len(chunk)
            records = list(splitter.feed(chunk))
            if at >= found.size:
                records += splitter.finish()
            for raw in records:
                if header_due:
                    header_due = False
                    if (rejection := rejected_header(raw)) is not None:
                        return await self._reject(found, reading, rejection, head)
                    continue
                rows.append(raw)
                held += len(raw.content)
                if len(rows) >= self._settings.batch_rows or held >= BATCH_BYTES:
                    reading = await self._publish(found, reading, rows)
                    rows, held = [], 0
        if header_due:
            return await self._reject(found, reading, Rejected("file_header", "blank lines only"), head)
        await self._publish(found, reading, rows, done=True)
        return "read"

    async def _publish(self, found: Found, reading: Reading, rows: Sequence[Raw], *, done: bool = False) -> Reading:
        """Publish rows and their dead letters, then how far that is."""
        now = datetime.now(UTC)
        records, dead = [], 0
        for number, raw in enumerate(rows, reading.rows + 1):
            key = row_key(self._bucket, found.key, number)
            values = parse(raw)
            if isinstance(values, Rejected):
                dead += 1
                records.append(self._letter(values, key, raw.content))
            else:
                sale = file_sale(values, self._bucket, found.key, reading, row_number=number, fetched_at=now)
                records.append(Record(TOPIC, key, self._encoders.sale(sale)))
        offset = rows[-1].end if rows else reading.offset
        after = replace(reading, offset=offset, rows=reading.rows + len(rows), done=done)
        await self._advance(found.key, after, records)
        self._count(len(rows), dead)
        return after

    async def _advance(self, key: str, reading: Reading, records: Sequence[Record]) -> None:
        """Publish `records`, and once they are acknowledged the progress that covers them."""
        await kafka.publish(self._client, records)
        await kafka.publish(self._client, [self._progress(key, reading)])
        self._known[key] = reading

    def _progress(self, key: str, reading: Reading) -> Record:
        cursor = f"{self._bucket}/{key}"
        return progress.record(self._encoders.progress, self._unit.name, cursor, reading.position())

    async def _reject(self, found: Found, reading: Reading, rejection: Rejected, head: bytes) -> str:
        """The whole file is one dead letter, with its head as the original bytes."""
        cut = f" (the first {len(head)} of {found.size} bytes are kept)" if found.size > len(head) else ""
        said = Rejected(rejection.reason, f"file {found.key}: {rejection.detail}{cut}")
        letter = self._letter(said, f"{self._bucket}/{found.key}".encode(), head)
        await self._advance(found.key, replace(reading, done=True), [letter])
        self._count(1, 1)
        return "rejected"

    async def _unreadable(self, found: Found, error: BaseException) -> None:
        """Count a failure; the object is tried again each round, and becomes one dead letter when it keeps failing."""
        failures = self._failures[found.key] = self._failures.get(found.key, 0) + 1
        self._unit.log.warning("file_unreadable", key=found.key, error=str(error), rounds=failures)
        if failures == UNREADABLE_ROUNDS:
            said = Rejected("file_unreadable", f"file {found.key}, {failures} rounds in a row: {str(error)[:300]}")
            await kafka.publish(self._client, [self._letter(said, f"{self._bucket}/{found.key}".encode(), None)])
            self._count(1, 1)

    def _letter(self, rejection: Rejected, key: bytes, content: bytes | None) -> Record:
        self._unit.metrics.dead_letter(TOPIC, rejection.reason)
        return dead_letters.dead_letter(
            self._encoders.dead_letter, self._unit.name, rejection, topic=TOPIC, key=key, value=content
        )

    def _count(self, received: int, dead: int) -> None:
        self._unit.metrics.record(TOPIC, "received", received)
        self._unit.metrics.record(TOPIC, "published", received - dead)
        self._unit.metrics.record(TOPIC, "dead_letter", dead)
