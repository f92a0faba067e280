"""`python -m tools.topics list | describe | tail | produce`: 0 done, 1 nothing to show, 2 not done."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from chassis.command import NotDoneError, command, run
from contracts.text import quoted
from tools.records import Servers, servers
from tools.topics.app import encoded, every, one, produce, tail
from tools.topics.report import print_list, print_one, print_record
from tools.topics.transform import objects

NAME = "topics"
NEWEST = 10


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number from 1 to 1000000")
    return int(text)


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line. Ends the process with a message and status 2 where it is wrong."""
    parser = argparse.ArgumentParser(prog=NAME, description="Looks into topics and writes single records.")
    commands = parser.add_subparsers(dest="command", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="a JSON object per line")
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument("topic", metavar="TOPIC")
    commands.add_parser("list", parents=[shared], help="every topic: what it is, how much it holds")
    commands.add_parser("describe", parents=[shared, named], help="one topic: contract, partitions, schemas")
    look = commands.add_parser("tail", parents=[shared, named], help="its newest records, decoded")
    look.add_argument("-n", "--lines", type=_count, metavar="N", help=f"so many (the newest {NEWEST})")
    look.add_argument("--from-beginning", action="store_true", help="the oldest first; all where -n is not given")
    look.add_argument("-f", "--follow", action="store_true", help="then what comes, until Ctrl-C")
    write = commands.add_parser("produce", parents=[named], help="write records, validated against the contract")
    write.add_argument("file", metavar="FILE", help="JSON records, one after the other; - is the standard input")
    write.add_argument("--key", help="the key of each")
    write.add_argument("--raw", action="store_true", help="the bytes of FILE as one record, whatever they are")
    asked = parser.parse_args(given)
    if asked.command == "tail" and asked.follow and asked.from_beginning and asked.lines is not None:
        parser.error("--from-beginning -n N ends after N records: leave out -f")
    return asked


def _content(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise NotDoneError(f"FILE {file[:80]!r}: {error.strerror}") from error


async def _tail(asked: argparse.Namespace, servers: Servers) -> int:
    count = asked.lines if asked.lines is not None or asked.from_beginning else NEWEST
    shown = await tail(
        servers,
        asked.topic,
        count,
        lambda record: print_record(record, as_json=asked.json),
        beginning=asked.from_beginning,
        follow=asked.follow,
    )
    if not shown:
        sys.stderr.write(f"{asked.topic} holds no record\n")
    return 0 if shown else 1


async def _produce(asked: argparse.Namespace, servers: Servers) -> int:
    topic = servers.topics.get(asked.topic)
    if topic is None:
        there = ", ".join(servers.topics)
        raise NotDoneError(f"TOPIC {quoted(asked.topic)} is not in contracts/topics; there are {there}")
    content = _content(asked.file)
    if asked.raw:
        values = [content]
    else:
        try:
            records = list(objects(content.decode("utf-8")))
        except ValueError as error:
            raise NotDoneError(f"FILE {asked.file[:80]!r} holds no JSON: {error}") from error
        if not records:
            raise NotDoneError(f"FILE {asked.file[:80]!r} is empty: it must hold a JSON object for each record")
        values = await encoded(servers, topic, records)
    key = None if asked.key is None else asked.key.encode()
    for place in await produce(servers, topic, key, values):
        sys.stdout.write(f"{place}\n")
    if key is None:
        sys.stderr.write(f"without a key; {topic.name} has {topic.key} as its key (--key)\n")
    return 0


async def _main(asked: argparse.Namespace, servers: Servers) -> int:
    match asked.command:
        case "tail":
            return await _tail(asked, servers)
        case "produce":
            return await _produce(asked, servers)
        case "describe":
            known, versions = await one(servers, asked.topic)
            print_one(known, versions, as_json=asked.json)
        case _:
            print_list(await every(servers), as_json=asked.json)
    return 0


@command(NAME)
def main(given: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status."""
    asked = arguments(given)
    try:
        return asyncio.run(_main(asked, servers(NAME)))
    except KeyboardInterrupt:
        if getattr(asked, "follow", False):
            return 0  # Ctrl-C is how following ends
        raise


if __name__ == "__main__":
    run(main)
