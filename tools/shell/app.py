"""The shell: what it has at hand, and a console that awaits."""

import ast
import asyncio
import code
import inspect
import readline
import rlcompleter
import sys
from collections.abc import Mapping
from types import CodeType, FunctionType, SimpleNamespace
from typing import Any

from chassis import settings
from chassis.clickhouse import ClickHouse
from chassis.settings import load
from tools.failures import failure
from tools.records import servers
from tools.topics import app as topics_app
from tools.topics.app import DecodedRecord

QUERY_S = 60.0

HELP = """\
settings     of each server: settings.kafka, .registry, .postgres, .clickhouse, .s3, .connect, .flink, .lineage
topics       the catalogue: topics["sales.unified"].avro, .examples()
registry     a client: await registry.get_schema("sales.unified-value")
clickhouse   await clickhouse.select("SELECT count() FROM sales")
tail         the newest records, decoded: await tail("sales.unified", 3)
encode       JSON as a topic's bytes: await encode("sales.legacy", {...})
produce      await produce("sales.legacy", {...}, key="7"); the position of the record"""


def namespace() -> dict[str, Any]:
    """What the shell has at hand; nothing is connected before it is used."""
    groups = SimpleNamespace(
        kafka=load(settings.KafkaSettings),
        registry=load(settings.RegistrySettings),
        postgres=load(settings.PostgresSettings),
        clickhouse=load(settings.ClickHouseSettings),
        s3=load(settings.S3Settings),
        connect=load(settings.ConnectSettings),
        flink=load(settings.FlinkSettings),
        lineage=load(settings.LineageSettings),
        ranking=load(settings.RankingSettings),
    )
    reached = servers("shell")

    async def tail(topic: str, count: int = 10) -> list[DecodedRecord]:
        return [record async for record in topics_app.tail(reached, topic, count)]

    async def encode(topic: str, record: Mapping[str, Any]) -> bytes:
        (value,) = await topics_app.encoded(reached, reached.topics[topic], [record])
        return value

    async def produce(topic: str, record: Mapping[str, Any], key: str | None = None) -> str:
        value = await encode(topic, record)
        (position,) = await topics_app.produce(reached, reached.topics[topic], key.encode() if key else None, [value])
        return position

    return {
        "settings": groups,
        "topics": reached.topics,
        "registry": reached.client,
        "clickhouse": ClickHouse(groups.clickhouse, 1, QUERY_S),
        "tail": tail,
        "encode": encode,
        "produce": produce,
    }


class Console(code.InteractiveConsole):
    """The standard library's console, with `await` at the prompt: each entry runs on one event loop."""

    def __init__(self, names: dict[str, Any], runner: asyncio.Runner) -> None:
        super().__init__(names)
        self._names, self._runner = names, runner
        self.compile.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT

    def runcode(self, code: CodeType) -> None:
        """Run an entry; an error is shown and the shell goes on."""
        entry = FunctionType(code, self._names)
        try:
            value = entry()
            if inspect.iscoroutine(value):
                self._runner.run(value)
        except SystemExit:
            raise
        except Exception as error:  # noqa: BLE001 - as below
            if line := failure(error):
                self.write(f"{line}\n")
            else:
                self.showtraceback()
        except BaseException:  # noqa: BLE001 - whatever the entry raises belongs to who typed it
            self.showtraceback()


def run() -> int:
    """Talk until the end of the input; returns the exit status."""
    names = namespace()
    readline.set_completer(rlcompleter.Completer(names).complete)
    readline.parse_and_bind("tab: complete")
    version = sys.version.split()[0]
    with asyncio.Runner() as runner:
        Console(names, runner).interact(f"Placar, Python {version}; Ctrl-D ends\n{HELP}", exitmsg="")
    return 0
