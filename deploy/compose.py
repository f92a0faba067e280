"""The runtime of compose.yaml: whether it can run here, and the commands of `task` in terms of `docker compose`."""

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from chassis.settings import load
from deploy.native import __main__ as native
from deploy.native import rankings, render, state, status, webhook_secrets
from deploy.native.graph import StartError
from deploy.native.processes import steps
from deploy.native.settings import ROOT, NativeSettings
from deploy.native.table import CONFIGURATION, TABLE

ENGINE_TIMEOUT_S = 1.5
REGISTRY_TIMEOUT_S = 10.0
PROFILES = "core,observability"
OWN = "placar/"
BASE_IMAGE = "debian:bookworm-20260803-slim"


def docker(*arguments: str, timeout_s: float) -> tuple[bool, str]:
    """Whether a docker command succeeds in time, and its output."""
    try:
        run = subprocess.run(
            ["docker", *arguments],
            capture_output=True, text=True, check=False, timeout=timeout_s, cwd=ROOT, env=_environment(),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return False, f"`docker {arguments[0]}` does not answer in {timeout_s:g} s"
    except OSError as error:
        return False, str(error)
    output = run.stdout if run.returncode == 0 else run.stderr or run.stdout
    return run.returncode == 0, output.strip()


def missing() -> str | None:
    """Why compose cannot run here; None where it can. Takes two seconds at most where there is no engine."""
    if shutil.which("docker") is None:
        return "there is no docker command"
    with ThreadPoolExecutor() as both:  # each may hang
        engine = both.submit(docker, "version", "--format", "{{.Server.Version}}", timeout_s=ENGINE_TIMEOUT_S)
        plugin = both.submit(docker, "compose", "version", timeout_s=ENGINE_TIMEOUT_S)
        for question, answer in (("no Docker engine", engine.result()), ("Docker has no Compose", plugin.result())):
            succeeded, output = answer
            if not succeeded:
                return f"{question}: {_first_line(output)}"
    return _missing_image()


def _missing_image() -> str | None:
    """Why an image is not available; None where none is missing, or the registry has the first that is."""
    known, images = docker("compose", "config", "--images", timeout_s=REGISTRY_TIMEOUT_S)
    local, listed = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", timeout_s=REGISTRY_TIMEOUT_S)
    if not known or not local:
        return _first_line(images if not known else listed)
    wanted = set(images.split())
    absent = wanted - set(listed.split())
    pulled = sorted(name for name in absent if not name.startswith(OWN))
    if len(pulled) < len(absent) and BASE_IMAGE not in listed.split():
        pulled.append(BASE_IMAGE)  # our own are built from it
    if not pulled:
        return None
    available, why = docker("manifest", "inspect", pulled[0], timeout_s=REGISTRY_TIMEOUT_S)
    return None if available else f"the image {pulled[0]} is not available: {_first_line(why)}"


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:200] or "no output"


def configuration_digests(deploy: Path = ROOT / "deploy") -> dict[str, str]:
    """A digest of each server's files by the variable of its label in compose.yaml: a change recreates containers."""
    names = sorted((*CONFIGURATION, "postgres/postgresql.conf"))
    by_folder = groupby(names, key=lambda name: name.partition("/")[0])
    return {
        f"{key.upper()}_CONFIGURATION": render.digest([deploy / each for each in own])[:16] for key, own in by_folder
    }


def _environment() -> dict[str, str]:
    """What compose.yaml is filled in with: the caller's environment, and what `up` has chosen and made."""
    settings = load(NativeSettings)
    chosen = sorted(settings.profiles)
    profiles = ",".join((os.environ.get("COMPOSE_PROFILES", PROFILES), *chosen))
    return {
        **configuration_digests(),
        **os.environ,
        **webhook_secrets.known(settings),
        "COMPOSE_PROFILES": profiles,
        "PLACAR_PROFILES": ",".join(chosen),
    }


def _compose(*arguments: str) -> int:
    return subprocess.run(["docker", "compose", *arguments], cwd=ROOT, env=_environment(), check=False).returncode


def _build(_: NativeSettings, given: argparse.Namespace) -> int:
    """Build our images and pull the others."""
    return _compose("build") or _compose("pull", "--ignore-buildable")


def _up(settings: NativeSettings, given: argparse.Namespace) -> int:
    """Build what changed, start everything, wait until it is healthy, show the first rankings."""
    if given.without:
        sys.stderr.write("up: --without is an option of the native runtime; name what to start by --only\n")
        return 2
    try:
        profiles = native.wanted_profiles(settings, given.profiles)
    except StartError as error:
        sys.stderr.write(f"up: {error}\n")
        return 1
    state.remember(settings.state_dir, profiles | TABLE.profiles_of(given.only))
    webhook_secrets.make(settings)
    code = _compose("up", "--build", "--detach", "--wait", "--remove-orphans", *given.only)
    if code != 0:
        return code
    if not given.only:
        try:
            asyncio.run(rankings.show_first(settings))
        except StartError as error:
            sys.stderr.write(f"up: {error}\n")
            return 1
    _urls(settings)
    return 0


def _down(settings: NativeSettings, given: argparse.Namespace) -> int:
    """Stop everything, and choose no profile any more; the volumes stay."""
    state.forget(settings.state_dir)
    return _compose("--profile", "*", "down")


def _clean(settings: NativeSettings, given: argparse.Namespace) -> int:
    """Stop everything and remove the volumes; with --all our images too."""
    state.forget(settings.state_dir)
    webhook_secrets.file(settings).unlink(missing_ok=True)
    return _compose("--profile", "*", "down", "--volumes", *(["--rmi", "all"] if given.all else []))


def _logs(_: NativeSettings, given: argparse.Namespace) -> int:
    """Print or follow logs."""
    follow = ["--follow"] if given.follow else []
    return _compose("--profile", "*", "logs", "--tail", str(given.lines), *follow, *given.units)


def _run(_: NativeSettings, given: argparse.Namespace) -> int:
    """Run a one-shot service once more."""
    return _compose("--profile", "*", "run", "--rm", "--no-deps", given.step, *given.rest)


def _status(settings: NativeSettings, given: argparse.Namespace) -> int:
    """Print every container with state, health and memory, and the URLs; returns 1 where something is not healthy."""
    listed, containers = docker("compose", "--profile", "*", "ps", "--all", "--format", "json", timeout_s=60)
    if not listed:
        sys.stderr.write(f"status: {containers}\n")
        return 1
    used, memory = docker("stats", "--no-stream", "--format", "{{.Name}}\t{{.MemUsage}}", timeout_s=60)
    sizes = dict(line.split("\t", 1) for line in memory.splitlines() if used and "\t" in line)
    table, healthy = Table("service", "state", "health", "memory", "uptime"), bool(containers)
    for container in sorted(map(json.loads, containers.splitlines()), key=lambda each: str(each["Service"])):
        text, fine = health(container)
        healthy = healthy and fine
        table.add_row(
            container["Service"],
            container["State"],
            text,
            sizes.get(container["Name"], ""),
            container.get("Status", ""),
        )
    Console().print(table)
    _urls(settings)
    return 0 if healthy else 1


def health(container: Mapping[str, Any]) -> tuple[str, bool]:
    """A container's health by its line of `docker compose ps`, and whether that is right."""
    if container["State"] == "exited":
        code = container["ExitCode"]
        return ("done" if code == 0 else f"ended with {code}"), code == 0
    return container["Health"] or container["State"], container["Health"] == "healthy"


def _urls(settings: NativeSettings) -> None:
    grafana = f"http://{settings.bind_host}:{os.environ.get('GRAFANA_PORT', '3000')}/"
    status.print_urls({**status.urls(settings), "Grafana": grafana})


COMMANDS: Mapping[str, Callable[[NativeSettings, argparse.Namespace], int]] = {
    "build": _build,
    "up": _up,
    "down": _down,
    "status": _status,
    "logs": _logs,
    "clean": _clean,
    "run": _run,
}


def run(settings: NativeSettings, command: str, rest: Sequence[str]) -> int:
    """Run one command with `docker compose`; returns its exit status. The command line is that of deploy.native."""
    if command == "build":
        return _build(settings, argparse.Namespace())
    parser = native.parser([step.name for step in steps(settings)])
    return COMMANDS[command](settings, parser.parse_args([command, *rest]))
