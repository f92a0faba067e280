"""Which runtime a command goes to, and how containers are asked for their health."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deploy import compose, ready, runtime

ANSWERS = """\
"version --format {{.Server.Version}}") echo 28.0.0;;
"compose version") echo Docker Compose version v2.40.3;;
"compose config --images") printf '%s\\n' placar/units:1 prom/prometheus:v3.5.5;;
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A search path with nothing but a folder of the test's own."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def docker(folder: Path, cases: str) -> None:
    """A docker command that knows these answers, and fails with the question otherwise."""
    program = folder / "docker"
    program.write_text(f'#!/bin/sh\ncase "$*" in\n{cases}*) echo "asked: $*" >&2; exit 1;;\nesac\n', "utf-8")
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("wanted", "last", "command", "missing", "chosen", "why"),
    [
        ("compose", "native", "up", "no engine", "compose", "RUNTIME says so"),
        ("native", "compose", "down", None, "native", "RUNTIME says so"),
        ("auto", "compose", "up", "no engine", "compose", "so is the data"),
        ("auto", "native", "up", None, "native", "so is the data"),
        ("auto", "", "up", None, "compose", "the images are available"),
        ("auto", "", "build", "there is no docker command", "native", "there is no docker command"),
        ("auto", "", "status", None, "native", "nothing was started"),
    ],
)
def test_the_runtime_is_the_wanted_one_or_where_the_data_is_or_what_can_run(
    *, wanted: str, last: str, command: str, missing: str | None, chosen: str, why: str
) -> None:
    """RUNTIME first, then the last `up`, and only then the question what can run here."""
    choice = runtime.choose(wanted, last, command, lambda: missing)

    assert choice.runtime == chosen
    assert why in choice.why


def test_docker_is_not_asked_where_the_runtime_is_decided() -> None:
    """The question takes time, so it is not asked for `down`, `status` and `logs`, nor where RUNTIME is set."""

    def fail() -> str | None:
        raise AssertionError("asked")

    for wanted, last, command in (("auto", "", "down"), ("auto", "native", "up"), ("compose", "", "up")):
        runtime.choose(wanted, last, command, fail)


def test_a_wrong_runtime_ends_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """RUNTIME with another word is named, with what it may be."""
    monkeypatch.setenv("RUNTIME", "podman")

    with pytest.raises(SystemExit) as ended:
        runtime.main(["up"])

    assert ended.value.code == 2
    assert "RUNTIME 'podman'" in capsys.readouterr().err


def test_an_unknown_command_is_rejected_with_those_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    """A typing error starts nothing."""
    assert runtime.main(["upp"]) == 2
    assert "'upp' is no command; there are build, up" in capsys.readouterr().err


def test_no_docker_command_is_a_reason(path: Path) -> None:
    """The usual machine without Docker."""
    assert compose.missing() == "there is no docker command"


def test_an_engine_that_does_not_answer_is_a_reason(path: Path) -> None:
    """The client's own message is passed on."""
    docker(path, '"compose version") echo v2;;\n')

    assert compose.missing() == "no Docker engine: asked: version --format {{.Server.Version}}"


def test_docker_without_compose_is_a_reason(path: Path) -> None:
    """A client without the plugin cannot read compose.yaml."""
    docker(path, '"version --format {{.Server.Version}}") echo 20.10;;\n')

    assert compose.missing() == "Docker has no Compose: asked: compose version"


def test_an_engine_that_hangs_is_given_up_soon(path: Path) -> None:
    """Both questions are asked at once and given up after a second and a half, so that `up` is not delayed."""
    docker(path, "*) exec /bin/sleep 60;;\n")
    begun = time.monotonic()

    why = compose.missing()

    assert why == "no Docker engine: `docker version` does not answer in 1.5 s"
    assert time.monotonic() - begun < 5  # two seconds, and patience for a busy machine


def test_images_that_are_there_need_no_registry(path: Path) -> None:
    """With every image and the base of ours on the machine no registry is asked."""
    listed = f"printf '%s\\n' {compose.BASE_IMAGE} prom/prometheus:v3.5.5"
    docker(path, f'{ANSWERS}"image ls --format {{{{.Repository}}}}:{{{{.Tag}}}}") {listed};;\n')

    assert compose.missing() is None


def test_a_registry_that_has_no_image_for_us_is_a_reason(path: Path) -> None:
    """An image that is missing is looked up, and named."""
    docker(path, f'{ANSWERS}"image ls --format {{{{.Repository}}}}:{{{{.Tag}}}}") true;;\n')

    why = compose.missing()

    assert why == "the image prom/prometheus:v3.5.5 is not available: asked: manifest inspect prom/prometheus:v3.5.5"


def test_the_base_of_our_images_must_be_available_too(path: Path) -> None:
    """Our own images are never looked for in a registry, what they are built from is."""
    listed = "printf '%s\\n' prom/prometheus:v3.5.5"
    docker(path, f'{ANSWERS}"image ls --format {{{{.Repository}}}}:{{{{.Tag}}}}") {listed};;\n')

    assert compose.missing() == (
        f"the image {compose.BASE_IMAGE} is not available: asked: manifest inspect {compose.BASE_IMAGE}"
    )


@pytest.mark.parametrize(
    ("state", "health", "code", "text", "fine"),
    [
        ("running", "healthy", 0, "healthy", True),
        ("running", "starting", 0, "starting", False),
        ("running", "unhealthy", 0, "unhealthy", False),
        ("exited", "", 0, "done", True),
        ("exited", "", 3, "ended with 3", False),
        ("restarting", "", 0, "restarting", False),
    ],
)
def test_status_is_right_where_all_is_healthy_or_done(
    state: str, health: str, code: int, text: str, fine: bool
) -> None:
    """A one-shot service that ended well counts as well."""
    assert compose.health({"State": state, "Health": health, "ExitCode": code}) == (text, fine)


class Answer(BaseHTTPRequestHandler):
    """Ready at one path, not ready with a reason elsewhere."""

    def do_GET(self) -> None:
        """Answer."""
        self.send_response(200 if self.path == "/readyz" else 503)
        self.end_headers()
        self.wfile.write(b'{"missing": "kafka"}')

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    """The address of a server of the test's own."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{listening.server_address[1]}"
        listening.shutdown()
        thread.join()


def test_the_health_check_says_why_a_container_is_not_ready(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    """0 for success; else 1 with the status and the unit's reason, also without an answer."""
    assert ready.main(f"{server}/readyz") == 0
    assert capsys.readouterr().out == ""

    assert ready.main(f"{server}/other") == 1
    assert '503 {"missing": "kafka"}' in capsys.readouterr().out

    assert ready.main("http://127.0.0.1:1/readyz") == 1
    assert "Connection refused" in capsys.readouterr().out
