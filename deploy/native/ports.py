"""Ports: which are taken by other processes, and free ones for a further runtime."""

import random
import socket
from collections.abc import Collection, Mapping

import psutil

from deploy.native.settings import PORTS

READINGS = 3


def owner(setting: str) -> str:
    """The process that listens on the port of this setting."""
    return PORTS[setting][1]


def taken(ports: Mapping[str, int], host: str, ours: Collection[int]) -> list[str]:
    """One line per port that a process outside `ours` (process ids) holds: setting, port, who, and what to do."""
    listening = _listening()
    lines = []
    for name, port in ports.items():
        if port not in listening and _free(host, port):
            continue
        holder = listening.get(port) or _holder(port)
        if holder not in ours:
            lines.append(f"{name} {port} ({owner(name)}) is in use by {_who(holder)}: set {name} in .env")
    return lines


def _listening() -> dict[int, int | None]:
    """The process that listens on each port; None where it is somebody else's."""
    return {c.laddr.port: c.pid for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.laddr}


def _holder(port: int) -> int | None:
    """The process that listens on the port; None where it is somebody else's.

    A server that boots may have opened it since, and psutil reads the processes before the sockets: one that is opened
    between the two has no process in that reading.
    """
    for _ in range(READINGS):
        if (holder := _listening().get(port)) is not None:
            return holder
    return None


def _free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _who(pid: int | None) -> str:
    if pid is None:
        return "another process"
    try:
        return f"pid {pid} ({psutil.Process(pid).name()})"
    except psutil.NoSuchProcess:
        return f"pid {pid}"


def doubled(ports: Mapping[str, int]) -> list[str]:
    """One line per port that two settings share."""
    seen: dict[int, str] = {}
    lines = []
    for name, port in ports.items():
        if port in seen:
            lines.append(f"{name} and {seen[port]} are both {port}: change one in .env")
        seen[port] = name
    return lines


def free_ports() -> dict[str, str]:
    """An environment that puts every port on one that is free now, below the range that outgoing connections take."""
    candidates = (port for port in random.sample(range(12_000, 32_000), 2_000) if _free("127.0.0.1", port))
    return {name: str(port) for name, port in zip(PORTS, candidates, strict=False)}
