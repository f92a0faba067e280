"""The command line of the native runtime: `python -m deploy.native --help`. The tasks in Taskfile.yml call it."""

import argparse
import asyncio
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from chassis.settings import load
from deploy.native import backup as copies
from deploy.native import dev as development
from deploy.native import install as installation
from deploy.native import jars, ports, postgres, rankings, render, state, status, supervise, webhook_secrets
from deploy.native.backup import BackupError
from deploy.native.graph import Starter, StartError, closure
from deploy.native.packages import InstallError
from deploy.native.processes import Node, chosen, environment, processes, steps
from deploy.native.settings import NativeSettings, known_profiles, names
from deploy.native.state import StateError
from deploy.native.supervise import SupervisorError
from deploy.native.table import TABLE


def _nodes(
    settings: NativeSettings, only: Sequence[str], without: Sequence[str], profiles: Collection[str]
) -> dict[str, Node]:
    """What `up` starts: everything of these profiles, or what `only` needs, less `without`."""
    everything: list[Node] = [*processes(settings), *steps(settings)]
    table = {node.name: node for node in everything}
    wanted = closure(table, only or [name for name, node in table.items() if node.profile in ("", *profiles)])
    unknown = set(without) - set(table)
    if unknown:
        raise StartError(f"unknown process {', '.join(sorted(unknown))}; there are {', '.join(sorted(table))}")
    return {name: node for name, node in table.items() if name in wanted and name not in without}


def _start_all(settings: NativeSettings, nodes: Mapping[str, Node], profiles: Collection[str], command: str) -> int:
    """Start what is not running and wait until all is ready; returns 1 where others hold a port."""
    state.claim(settings.state_dir, "PLACAR_STATE")
    with state.locked(settings.state_dir, command, wait=True):
        state.claim(settings.state_dir, "PLACAR_STATE")  # again: it may have waited for `clean`
        state.remember(settings.state_dir, profiles)
        webhook_secrets.make(settings)
        return _start(settings, nodes)


def _start(settings: NativeSettings, nodes: Mapping[str, Node]) -> int:
    absent = TABLE.without(settings.profiles)
    used = {name: port for name, port in settings.ports.items() if ports.owner(name) not in absent}
    mine = {name: port for name, port in used.items() if ports.owner(name) in nodes}
    ours = supervise.pids(settings) | {process.pid for process in supervise.leftovers(settings)}
    problems = [*ports.doubled(used), *ports.taken(mine, settings.bind_host, ours)]
    if problems:
        sys.stderr.write("\n".join(problems) + "\n")
        return 1
    supervise.launch(settings, render.configuration(settings, chosen(settings)))
    asyncio.run(Starter(settings, list(nodes.values())).run())
    return 0


def wanted_profiles(settings: NativeSettings, given: Sequence[str]) -> set[str]:
    """The profiles of an `up`: those that are chosen, and the given ones.

    Raises:
        StartError: there is none of that name.
    """
    try:
        return settings.profiles | {*names(known_profiles(",".join(given)))}
    except ValueError as error:
        raise StartError(str(error)) from None


def up(settings: NativeSettings, arguments: argparse.Namespace) -> int:
    """Start what is not running, wait until all is ready, show the first rankings."""
    profiles = wanted_profiles(settings, arguments.profiles)
    nodes = _nodes(settings, arguments.only, arguments.without, profiles)
    profiles |= TABLE.profiles_of(nodes)
    try:
        if _start_all(settings, nodes, profiles, "up"):
            return 1
        if {"seed", "ranking-job", "clickhouse_sink", "api"} <= set(nodes):  # without the seed nothing may be sold yet
            asyncio.run(rankings.show_first(settings))
    except KeyboardInterrupt:
        print("interrupted: stopping what was started ...", flush=True)
        _stop(settings)
        return 130
    status.print_urls(status.urls(settings))
    return 0


def _stop(settings: NativeSettings) -> None:
    supervise.shutdown(settings, processes(settings))
    state.forget(settings.state_dir)


def down(settings: NativeSettings, _: argparse.Namespace) -> int:
    """Stop everything, and choose no profile any more; the data stays."""
    _stop(settings)
    print("stopped; the data is kept (clean removes it)")
    return 0


def show_status(settings: NativeSettings, _: argparse.Namespace) -> int:
    """Print the state of every process."""
    return asyncio.run(status.show(settings, chosen(settings)))


def logs(settings: NativeSettings, arguments: argparse.Namespace) -> int:
    """Print or follow logs."""
    folder = settings.state_dir / "logs"
    files = [folder / f"{name}.log" for name in arguments.units] or sorted(folder.glob("*.log"))
    missing = [path.stem for path in files if not path.exists()]
    if missing or not files:
        there = ", ".join(sorted(path.stem for path in folder.glob("*.log"))) or "none yet"
        sys.stderr.write(f"no log of {', '.join(missing) or 'anything'}; there are: {there}\n")
        return 1
    follow = ["-F"] if arguments.follow else []
    command = ["tail", "-n", str(arguments.lines), *follow, *(str(path) for path in files)]
    try:
        return subprocess.run(command, check=False).returncode
    except KeyboardInterrupt:
        return 0


def clean(settings: NativeSettings, arguments: argparse.Namespace) -> int:
    """Stop everything and remove the data; with --all the installed software too."""
    state.check_removable(settings.state_dir, "PLACAR_STATE")
    folders = [settings.state_dir, postgres.data_dir(settings).parent]
    if arguments.all:
        state.check_removable(settings.home, "PLACAR_HOME")
        folders += [settings.home / name for name in ("jars", "flink-lib", "flink-venv", "tools", "venv")]
    with state.locked(settings.state_dir, "clean", wait=False):
        supervise.shutdown(settings, processes(settings))
        for folder in folders:
            if folder.exists():
                shutil.rmtree(folder)
                print(f"removed {folder}")
    for stamp in ("programs.verified", "programs.tests.verified", state.MARKER) if arguments.all else ():
        (settings.home / stamp).unlink(missing_ok=True)
    return 0


def backup(settings: NativeSettings, arguments: argparse.Namespace) -> int:
    """Copy everything that a stopped runtime keeps into one file."""
    with state.locked(settings.state_dir, "backup", wait=False):
        size = copies.backup(settings, arguments.file)
    print(f"{arguments.file}: {size / 2**20:.0f} MiB")
    return 0


def restore(settings: NativeSettings, arguments: argparse.Namespace) -> int:
    """Restore what `backup` has copied."""
    state.claim(settings.state_dir, "PLACAR_STATE")
    with state.locked(settings.state_dir, "restore", wait=False):
        copies.restore(settings, arguments.file)
    print(f"restored from {arguments.file}; start with task up, then task audit")
    return 0


def run(settings: NativeSettings, arguments: argparse.Namespace) -> int:
    """Run a one-shot step by its name, with the environment that the runtime gives it."""
    step = {step.name: step for step in steps(settings)}[arguments.step]
    variables = {**os.environ, **environment(settings), **step.environment}
    return subprocess.run([*step.command, *arguments.rest], env=variables, check=False).returncode


def dev(settings: NativeSettings, arguments: argparse.Namespace) -> int:
    """Run units from here and restart them on save; without names servers and all units, under one log."""
    unknown = set(arguments.units) - set(TABLE.units)
    if unknown:
        raise StartError(f"unknown unit {', '.join(sorted(unknown))}; there are {', '.join(TABLE.units)}")
    ran, profiles = supervise.running(settings) or bool(arguments.units), settings.profiles
    table = [each for each in processes(settings) if each.profile in ("", *profiles) or each.name in arguments.units]
    units, log = arguments.units or [each.name for each in table if each.name in TABLE.units], None
    if len(units) > 1:
        shown = ["dev", *units, *(each.name for each in table if each.name not in TABLE.units)]
        log = development.Log(shown, sys.stdout)
    try:
        servers = _nodes(settings, [], [*TABLE.units], profiles)
        if not arguments.units and _start_all(settings, servers, profiles, "dev"):
            return 1
        development.run(settings, table, units, log)
    except KeyboardInterrupt:
        pass  # it is how this ends
    finally:
        if not ran:
            supervise.shutdown(settings, table)
    return 0


def install(settings: NativeSettings, arguments: argparse.Namespace) -> int:
    """Install what is missing."""
    installation.install(settings, tests=arguments.tests)
    return 0


def show_secrets(settings: NativeSettings, _: argparse.Namespace) -> int:
    """Print the secrets of the webhooks' providers, which `up` made where none are set."""
    for name, value in webhook_secrets.known(settings).items():
        print(f"{name}={value}")
    return 0


def lock(settings: NativeSettings, _: argparse.Namespace) -> int:
    """Write the lock of the Java files that are installed now, after a change of maven/pom.xml."""
    jars.LOCK.write_text(jars.write_lock(settings.home / "jars"), "utf-8")
    return 0


Command = Callable[[NativeSettings, argparse.Namespace], int]
COMMANDS: Mapping[str, Command] = {
    "install": install,
    "lock": lock,
    "up": up,
    "down": down,
    "status": show_status,
    "logs": logs,
    "clean": clean,
    "backup": backup,
    "restore": restore,
    "run": run,
    "dev": dev,
    "secrets": show_secrets,
}


def parser(step_names: Sequence[str]) -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="deploy.native", description=__doc__)
    sub = top.add_subparsers(dest="command", required=True)
    parsers = {
        name: sub.add_parser(name, help=command.__doc__, description=command.__doc__)
        for name, command in COMMANDS.items()
    }
    parsers["install"].add_argument("--tests", action="store_true", help="also what only the tests need")
    help_ = f"also what these start, until `down`: {', '.join(TABLE.profiles)}"
    parsers["up"].add_argument("profiles", nargs="*", help=help_)
    parsers["up"].add_argument("--only", type=names, default=[], help="these and what they need, comma separated")
    parsers["up"].add_argument("--without", type=names, default=[], help="not these, comma separated")
    parsers["logs"].add_argument("units", nargs="*", help="all when none is named")
    parsers["logs"].add_argument("-f", "--follow", action="store_true")
    parsers["logs"].add_argument("-n", "--lines", type=int, default=20)
    parsers["clean"].add_argument("--all", action="store_true", help="the installed software, or the images, too")
    for name in ("backup", "restore"):
        parsers[name].add_argument("file", type=Path, help="an archive of tar")
    parsers["run"].add_argument("step", choices=step_names)
    parsers["run"].add_argument("rest", nargs="*")
    parsers["dev"].add_argument("units", nargs="*", help="one gets this terminal; all when none is named")
    return top


def main(argv: Sequence[str]) -> int:
    """Parse and run one command; returns the exit status."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # a failed probe is reported by itself
    try:
        settings = load(NativeSettings)
    except ValueError as error:
        sys.stderr.write(f"wrong setting: {error}\n")
        return 2
    arguments = parser([step.name for step in steps(settings)]).parse_args(argv)
    try:
        return COMMANDS[arguments.command](settings, arguments)
    except (BackupError, InstallError, StartError, StateError, SupervisorError) as error:
        sys.stderr.write(f"{arguments.command}: {error}\n")
        return 1


def interrupt_on_stop_signals() -> None:
    """A stop signal and a closed terminal end like Ctrl-C: `up` leaves nothing behind, `dev` gives its units back."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.default_int_handler)


if __name__ == "__main__":
    interrupt_on_stop_signals()
    raise SystemExit(main(sys.argv[1:]))
