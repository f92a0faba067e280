"""One round after the other: list the bucket, read what is new or changed, publish rows, then progress."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime

from aiokafka import AIOKafkaProducer

from chassis import dead_letters, kafka, progress, s3
from chassis.kafka import Record
from chassis.results import Rejected
from chassis.s3 import Bucket, ChangedError, GoneError, UnreachableError
from chassis.s3_protocol import Object
from chassis.unit import Unit
from chassis.unpack import UnpackError
from contracts.codec import Encoder
from contracts.sale import normalized
from services.file_poller.metrics import FILES, SKIPPED
from services.file_poller.settings import FilePollerSettings
from services.file_poller.splitter import KEPT_BYTES, Raw
from services.file_poller.store import content, records
from services.file_poller.transform import (
    COLUMNS,
    Reading,
    file_sale,
    is_csv,
    packed_ids,
    parse,
    pending,
    rejected_header,
    rejected_start,
    row_key,
    unpacked_ids,
)

TOPIC = "sales.files"
BATCH_BYTES = 4 * 1024 * 1024
UNREADABLE_ROUNDS = 3  # rounds in a row after which an object that cannot be read is also a dead letter


class Poller:
    """Reads the bucket; `known` is what was read before, by key, and is kept up to date."""

    def __init__(
        self,
        unit: Unit,
        settings: FilePollerSettings,
        *,
        bucket: Bucket,
        client: AIOKafkaProducer,
        encoders: Mapping[str, Encoder],
        known: dict[str, Reading],
    ) -> None:
        self._unit, self._settings, self._bucket = unit, settings, bucket
        self._client, self._encoders, self._known = client, encoders, known
        self._name = settings.s3.bucket
        self._failures: dict[str, int] = {}
        self._skipped = 0

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
        endpoint = self._settings.s3.endpoint
        wanted = await self._unit.retry_until_available("s3", endpoint, s3.SETTING, self._listed, UnreachableError)
        if self._settings.whole_files:  # its sale ids are known only where it is read from its beginning
            wanted = [(listed, replace(reading, offset=0, rows=0)) for listed, reading in wanted]
        # versions are noted before the first row under them is published, all at once: one wait for many small files
        begun = {listed.key: reading for listed, reading in wanted if reading != self._known.get(listed.key)}
        await kafka.publish(self._client, [self._progress(key, reading) for key, reading in begun.items()])
        self._known |= begun
        for listed, reading in wanted:
            try:
                outcome = await self._read(listed, reading)
                self._failures.pop(listed.key, None)
            except ChangedError:
                outcome = "changed"  # the next listing has its new version
            except (GoneError, UnreachableError) as error:
                outcome = "vanished" if isinstance(error, GoneError) else "unreadable"
                await self._failed(listed, error)
            self._unit.metrics[FILES].inc({"outcome": outcome})
            self._unit.log.info("file_processed", key=listed.key, size=listed.size, outcome=outcome)

    async def _listed(self) -> Sequence[tuple[Object, Reading]]:
        wanted, skipped, example = [], 0, ""
        async for page in self._bucket.pages(self._settings.prefix, self._settings.page_keys):
            wanted += pending(page, self._known)
            others = [listed.key for listed in page if not is_csv(listed.key)]
            skipped, example = skipped + len(others), example or "".join(others[:1])
        self._unit.metrics[SKIPPED].set({}, skipped)
        if skipped != self._skipped:
            self._unit.log.warning("files_skipped", objects=skipped, example=example, why="no .csv or .csv.gz file")
        self._skipped = skipped
        return sorted(wanted, key=lambda pair: (pair[0].last_modified, pair[0].key))

    async def _read(self, listed: Object, reading: Reading) -> str:
        """Publish the rows of one object from where `reading` stands; returns `read` or `rejected`."""
        rows: list[Raw] = []
        size, head, ids = 0, b"", set[str]()
        async with aclosing(content(self._bucket, listed, reading.offset, self._settings.chunk_bytes)) as chunks:
            try:
                if reading.offset == 0:
                    head = await anext(chunks, b"")
                    if (rejection := rejected_start(head)) is not None:
                        return await self._reject(listed, reading, rejection, head)
                records_left = records(head, chunks, reading.offset)
                if reading.offset == 0 and (rejection := rejected_header(await anext(records_left, None))):
                    return await self._reject(listed, reading, rejection, head)
                async for raw in records_left:
                    rows.append(raw)
                    size += len(raw.content)
                    if len(rows) >= self._settings.batch_rows or size >= BATCH_BYTES:
                        reading = await self._publish(listed, reading, rows, ids)
                        rows, size = [], 0
            except UnpackError as error:
                reading = await self._publish(listed, reading, rows, ids)
                return await self._reject(listed, reading, Rejected("file_unreadable", str(error)), head)
        await self._publish(listed, reading, rows, ids, done=True)
        return "read"

    async def _publish(
        self, listed: Object, reading: Reading, rows: Sequence[Raw], ids: set[str], *, done: bool = False
    ) -> Reading:
        """Publish rows and their dead letters, then how far that is; `ids` collects their sales for whole files."""
        now = datetime.now(UTC)
        batch: list[Record] = []
        dead = 0
        for number, raw in enumerate(rows, reading.rows + 1):
            key = row_key(self._name, listed.key, number)
            values = parse(raw)
            if isinstance(values, Rejected):
                dead += 1
                batch.append(self._dead_letter(values, key, raw.content))
                continue
            if self._settings.whole_files:
                ids.add(normalized(values[0]))
            sale = file_sale(values, self._name, listed.key, reading, row_number=number, fetched_at=now)
            batch.append(Record(TOPIC, key, self._encoders[TOPIC](sale)))
        offset = rows[-1].end if rows else reading.offset
        after = replace(reading, offset=offset, rows=reading.rows + len(rows), done=done)
        received = len(rows)
        if done and self._settings.whole_files:
            removed = sorted(unpacked_ids(reading.ids) - ids)
            received += len(removed)
            for number, sale_id in enumerate(removed, after.rows + 1):
                values = [sale_id, *[""] * (len(COLUMNS) - 1)]
                sale = file_sale(
                    values, self._name, listed.key, reading, row_number=number, fetched_at=now, deleted=True
                )
                batch.append(Record(TOPIC, row_key(self._name, listed.key, number), self._encoders[TOPIC](sale)))
            after = replace(after, ids=packed_ids(ids))
            if ids and not after.ids:
                self._unit.log.warning("whole_file_too_long", key=listed.key, sales=len(ids))
        await self._advance(listed.key, after, batch)
        self._count(received, dead)
        return after

    async def _advance(self, key: str, reading: Reading, batch: Sequence[Record]) -> None:
        """Publish `batch`, and once it is acknowledged the progress that covers it."""
        await kafka.publish(self._client, batch)
        await kafka.publish(self._client, [self._progress(key, reading)])
        self._known[key] = reading

    def _progress(self, key: str, reading: Reading) -> Record:
        encode = self._encoders[progress.TOPIC]
        return progress.record(encode, self._unit.name, f"{self._name}/{key}", reading.position())

    async def _reject(self, listed: Object, reading: Reading, rejection: Rejected, head: bytes) -> str:
        """The whole file is one dead letter, with its head as the original bytes."""
        head = head[:KEPT_BYTES]
        cut = f" (the first {len(head)} of {listed.size} bytes are kept)" if listed.size > len(head) else ""
        whole = Rejected(rejection.reason, f"file {listed.key}: {rejection.detail}{cut}")
        record = self._dead_letter(whole, f"{self._name}/{listed.key}".encode(), head)
        await self._advance(listed.key, replace(reading, done=True), [record])
        self._count(1, 1)
        return "rejected"

    async def _failed(self, listed: Object, error: Exception) -> None:
        """Count a failure; the object is tried again each round, and becomes one dead letter when it keeps failing."""
        failures = self._failures[listed.key] = self._failures.get(listed.key, 0) + 1
        self._unit.log.warning("file_unreadable", key=listed.key, error=repr(error), rounds=failures)
        if failures == UNREADABLE_ROUNDS:
            why = Rejected("file_unreadable", f"file {listed.key}, {failures} rounds in a row: {repr(error)[:300]}")
            record = self._dead_letter(why, f"{self._name}/{listed.key}".encode(), None)
            await kafka.publish(self._client, [record])
            self._count(1, 1)

    def _dead_letter(self, rejection: Rejected, key: bytes, value: bytes | None) -> Record:
        self._unit.metrics.dead_letter(TOPIC, rejection.reason)
        encode = self._encoders[dead_letters.TOPIC]
        return dead_letters.dead_letter(encode, self._unit.name, rejection, topic=TOPIC, key=key, value=value)

    def _count(self, received: int, dead: int) -> None:
        self._unit.metrics.record(TOPIC, "received", received)
        self._unit.metrics.record(TOPIC, "published", received - dead)
        self._unit.metrics.record(TOPIC, "dead_letter", dead)
