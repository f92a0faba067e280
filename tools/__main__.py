"""The command line `placar`: what an operator runs and ends.

Exit status: 0 done, 1 done with findings (a command says which), 2 not done, 130 interrupted, 141 the reader has gone.

A `cli.py` declares a command with typer and imports what does the work when it runs, so that help comes at once.
"""

import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import typer
from typer.exceptions import TyperException

from tools.audit.cli import audit
from tools.clients.cli import OWN_ARGUMENTS, clickhouse, psql
from tools.dead_letters.cli import dead_letters
from tools.ledger.cli import ledger
from tools.lineage.cli import lineage
from tools.shell.cli import shell
from tools.topics.cli import produce, topics
from tools.trace.cli import trace
from tools.traffic.cli import seed, shop, traffic
from tools.watch.cli import watch

NOT_DONE = 2
PIPE_CLOSED = 141  # the status that a shell gives a command whose reader has gone

ROOT = Path(__file__).resolve().parents[1]

app = typer.Typer(no_args_is_help=True, context_settings={"help_option_names": ["--help", "-h"]})
for command in (audit, ledger, lineage, produce, seed, shell, shop, trace, traffic, watch):
    app.command()(command)
for client in (psql, clickhouse):
    app.command(context_settings=OWN_ARGUMENTS)(client)
for name, group in {"dead-letters": dead_letters, "topics": topics}.items():
    app.add_typer(group, name=name)


@app.callback()
def _placar() -> None:
    """Look into the running pipeline, check it, and feed it."""


def _usage(error: TyperException) -> str:
    """What is wrong with the arguments, in one line."""
    message = re.sub(r"'([^']{57})[^']{4,}'", r"'\1...'", " ".join(error.format_message().split()))
    context = getattr(error, "ctx", None)
    return f"{message} ({context.command_path if context else 'placar'} --help explains)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command in this process; returns its exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    for library in ("asynch", "aiokafka"):
        logging.getLogger(library).setLevel(logging.CRITICAL)  # an unavailable server is named once, below
    try:
        status = typer.main.get_command(app).main(given, prog_name="placar", standalone_mode=False)
        sys.stdout.flush()
    except TyperException as error:
        if error.format_message():  # without any argument the help is shown, and this is empty
            sys.stderr.write(f"{_usage(error)}\n")
        return NOT_DONE
    except BrokenPipeError:  # of `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # typer's way to end then
            return PIPE_CLOSED
        raise
    except Exception as error:
        from tools.failures import failure

        line = failure(error)
        if line is None:
            raise
        sys.stderr.write(f"{given[0]} not done: {line}\n")
        return NOT_DONE
    return status or 0


def settings_files() -> Iterator[Path]:
    """The files whose settings count where the environment has none, each to be loaded before the next is asked for.

    `.env`, where ./placar names it, and in the state folder the secrets that `up` has made.
    """
    if "PLACAR_DOTENV" in os.environ:
        yield Path(os.environ["PLACAR_DOTENV"])
    home = Path(os.environ.get("PLACAR_HOME") or ROOT / ".placar")
    yield Path(os.environ.get("PLACAR_STATE") or home / "state") / "secrets.env"


if __name__ == "__main__":
    from dotenv import load_dotenv

    for file in settings_files():
        load_dotenv(file)
    raise SystemExit(main())
