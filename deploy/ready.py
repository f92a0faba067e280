"""`python deploy/ready.py URL`: exits 0 where a GET is answered with success. The health check of containers.

It runs every few seconds in every container, so it starts in milliseconds: sockets only, no HTTP library.
"""

import socket
import sys
from urllib.parse import urlsplit

TIMEOUT_S = 5.0


def status(url: str) -> str:
    """The status of the answer to a GET, with the beginning of its body.

    Raises:
        OSError: no answer.
    """
    target = urlsplit(url)
    host, port = target.hostname or "", target.port or 80
    with socket.create_connection((host, port), TIMEOUT_S) as connection:
        connection.sendall(f"GET {target.path or '/'} HTTP/1.0\r\nHost: {host}:{port}\r\n\r\n".encode())
        with connection.makefile("rb") as answer:
            head, _, body = answer.read(4096).partition(b"\r\n\r\n")
    return f"{head.split(None, 2)[1].decode()} {body.decode(errors='replace')}" if head else "closed without an answer"


def main(url: str) -> int:
    """Print why, where it is not ready; returns the exit status."""
    try:
        answer = status(url)
    except OSError as error:
        answer = str(error)
    if answer.startswith("2"):
        return 0
    sys.stdout.write(f"{url}: {answer[:300]}\n")
    return 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
