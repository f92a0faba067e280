"""The part of `task bench:streams` beside other libraries: cdc's work in Quix Streams, in Bytewax and in ours.

Each reads the same changes from the first on, decodes Debezium's envelope with the contract's reader schema, applies
cdc's own rules, and publishes to `sales.unified`: idempotent, acks=all, with progress saved each second. What each has
published is compared record by record with what the first did.
"""

import asyncio
import os
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import psutil
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from deploy.native.install import python_environment
from deploy.native.settings import NativeSettings
from tests.connected.unit_process import unit_process
from tests.performance.catch_up import Figures, follow, median, published, rewind, say, show, total
from tests.performance.streams_live import RAW, debezium, preload
from tests.rankings import registry_of
from tests.runtime import ROOT, Runtime

LOCK = Path(__file__).parent / "peers" / "requirements.lock"
PEERS = "tests.performance.peers"

Outputs = Counter[tuple[int, bytes, bytes]]
"""How often each record was published: partition, key and value."""


async def prepare(runtime: Runtime, count: int) -> None:
    """Fill the raw topic."""
    producer = AIOKafkaProducer(bootstrap_servers=f"127.0.0.1:{runtime.env['KAFKA_PORT']}")
    await producer.start()
    try:
        await preload(producer, await debezium(registry_of(runtime)), count)
    finally:
        await producer.stop()


@asynccontextmanager
async def process(command: Sequence[str], environment: Mapping[str, str], log: Path) -> AsyncIterator[psutil.Process]:
    """The command's process while the context lasts; its output goes to the log."""
    with log.open("ab") as out:
        started = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environment, stdout=out, stderr=out)
    try:
        yield psutil.Process(started.pid)
    finally:
        if started.returncode is None:
            started.terminate()
        await started.wait()


async def outputs(port: str, before: Mapping[TopicPartition, int], after: Mapping[TopicPartition, int]) -> Outputs:
    """What was published between two ends of the topic."""
    published: Outputs = Counter()
    client = AIOKafkaConsumer(bootstrap_servers=f"127.0.0.1:{port}", enable_auto_commit=False)
    await client.start()
    try:
        client.assign(list(before))
        for partition, offset in before.items():
            client.seek(partition, offset)
        while any([await client.position(partition) < end for partition, end in after.items()]):
            for messages in (await client.getmany(timeout_ms=500)).values():
                published.update((message.partition, message.key, message.value) for message in messages)
    finally:
        await client.stop()
    return published


async def beside(runtime: Runtime, folder: Path, count: int, rounds: int) -> bool:
    """All libraries in turn; whether all published the same."""
    environment, port = {**os.environ, **runtime.env, "PYTHONPATH": str(ROOT)}, runtime.env["KAFKA_PORT"]
    venv = NativeSettings().home.resolve() / "peers-venv"
    python_environment(venv, LOCK, "Quix Streams and Bytewax")
    python = venv / "bin" / "python"
    await prepare(runtime, count)
    watcher = AIOKafkaConsumer(bootstrap_servers=f"127.0.0.1:{port}")
    await watcher.start()
    runs: dict[str, list[Figures]] = {}
    seen: list[Outputs] = []

    async def measure(name: str, pid: psutil.Process) -> None:
        before = await published(watcher)
        runs.setdefault(name, []).append(await follow(partial(total, watcher), count, [pid]))
        seen.append(await outputs(port, before, await published(watcher)))
        same = "the same records" if seen[-1] == seen[0] else f"{(seen[-1] - seen[0]).total():,} OTHER RECORDS"
        show(name, runs[name][-1])
        say(f"{name:<12} {seen[-1].total():,} published, {same}")

    try:
        for number in range(rounds):
            await rewind(port, "cdc", RAW)
            async with unit_process("streams.cdc", runtime.env, folder / "cdc.log") as worker:
                await measure("placar cdc", psutil.Process(worker.pid))
            await rewind(port, "quixstreams", RAW)
            command: tuple[str, ...] = (str(python), "-m", f"{PEERS}.with_quixstreams")
            async with process(command, environment, folder / "quixstreams.log") as pid:
                await measure("quixstreams", pid)
            store = folder / f"recovery-{number}"
            store.mkdir()
            await asyncio.to_thread(subprocess.check_call, [str(python), "-m", "bytewax.recovery", str(store), "1"])
            command = (str(python), "-m", "bytewax.run", f"{PEERS}.with_bytewax:flow()", "-r", str(store), "-s", "1")
            async with process((*command, "-b", "0"), environment, folder / "bytewax.log") as pid:
                await measure("bytewax", pid)
    finally:
        await watcher.stop()
    ours = median(runs["placar cdc"])
    say("median         sales/s  CPU a sale  sales/s, ours / theirs  CPU, theirs / ours")
    for name, figures in runs.items():
        one = median(figures)
        rate, cpu = ours.rate / one.rate, one.cpu_us / ours.cpu_us
        say(f"{name:<12} {one.rate:9,.0f} {one.cpu_us:8.1f} µs {rate:23.2f} {cpu:19.2f}")
    return all(each == seen[0] for each in seen)
