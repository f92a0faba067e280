"""The images and compose.yaml on a real engine, with stand-ins for images that cannot be pulled (task test:containers).

Needs `docker` with Compose; without an engine that answers also root and dockerd. Where the base image is not there and
cannot be pulled, debootstrap makes it from this machine's Debian packages.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from deploy import compose
from deploy.native.processes import UNITS
from deploy.native.settings import PORTS, ROOT
from tests.runtime import start_runtime

pytestmark = [pytest.mark.containers, pytest.mark.timeout(3600)]

HERE = Path(__file__).parent
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"]
STAND_INS = ("postgres", "s3", "clickhouse", "prometheus", "alertmanager")
NO_STAND_IN = ("grafana",)
UNITS_IMAGE_LIMIT_MB = 250
REBUILD_LIMIT_S = 15
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
FREE = {name: str(20_000 + number) for number, name in enumerate([*PORTS, "GRAFANA_PORT", "MARQUEZ_UI_PORT"])}
# without iptables a build has a network only as its host
OVERRIDE = {
    "services": {name: {"build": {"network": "host"}} for name, service in SERVICES.items() if "build" in service}
}


def show(*words: object) -> None:
    """Say a figure; pytest shows it with `-s`."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")


def docker(*arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """What a docker command prints; it must succeed."""
    run = subprocess.run(
        ["docker", *arguments],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=1800,
    )
    assert run.returncode == 0, f"docker {' '.join(arguments)}:\n{run.stdout[-4000:]}"
    return run.stdout


def answers() -> bool:
    """Whether an engine answers."""
    return subprocess.run(["docker", "version"], capture_output=True, check=False).returncode == 0


@contextmanager
def own_engine(folder: Path) -> Iterator[None]:
    """An engine of the test's own, removed with all that it holds."""
    address = f"unix://{folder}/docker.sock"
    folders = [f"--data-root={folder}/data", f"--exec-root={folder}/exec", f"--pidfile={folder}/pid"]
    with (folder / "dockerd.log").open("wb") as log:
        engine = subprocess.Popen(
            ["dockerd", f"--host={address}", *folders, "--iptables=false"], stdout=log, stderr=log
        )
    before = os.environ.get("DOCKER_HOST")
    os.environ["DOCKER_HOST"] = address
    try:
        deadline = time.monotonic() + 60
        while not answers():
            assert engine.poll() is None and time.monotonic() < deadline, (folder / "dockerd.log").read_text("utf-8")  # noqa: PT018
            time.sleep(0.5)
        yield
    finally:
        engine.terminate()
        engine.wait(60)
        os.environ.pop("DOCKER_HOST")
        if before is not None:
            os.environ["DOCKER_HOST"] = before
        shutil.rmtree(folder, ignore_errors=True)


def make_base(folder: Path) -> None:
    """Import Debian's own bootstrap as the base image, with this machine's package sources and certificates."""
    sources = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)"], capture_output=True, text=True, check=True
    )
    root = folder / "root"
    subprocess.run(["debootstrap", "--variant=minbase", "bookworm", str(root), sources.stdout.split()[0]], check=True)
    (root / "etc/apt/sources.list").unlink()
    for name in ("etc/apt/sources.list.d/debian.sources", "etc/apt/sources.list"):
        if (Path("/") / name).is_file():
            shutil.copy(Path("/") / name, root / name)
    shutil.copytree("/usr/local/share/ca-certificates", root / "usr/local/share/ca-certificates", dirs_exist_ok=True)
    slim = "path-exclude /usr/share/man/*\npath-exclude /usr/share/doc/*\npath-exclude /usr/share/locale/*\n"
    (root / "etc/dpkg/dpkg.cfg.d/docker").write_text(slim, "utf-8")
    for name in ("usr/share/man", "usr/share/doc", "usr/share/locale", "var/cache/apt", "var/lib/apt/lists"):
        shutil.rmtree(root / name)
    with subprocess.Popen(["tar", "--create", "--directory", str(root), "."], stdout=subprocess.PIPE) as archive:
        command = ["docker", "import", "--change", f"ENV SSL_CERT_FILE={CERTIFICATES}", "-", compose.BASE_IMAGE]
        subprocess.run(command, stdin=archive.stdout, check=True)
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An engine that has the base image, or a stand-in for it."""
    folder = tmp_path_factory.mktemp("engine")
    if answers():
        _have_base(folder)
        yield
        return
    for program in ("docker", "dockerd"):
        assert shutil.which(program), f"{program} is missing: apt-get install docker.io"
    with own_engine(folder):
        _have_base(folder)
        yield


def had(image: str) -> bool:
    """Whether the engine has an image, or can pull it."""
    return bool(docker("image", "ls", "--quiet", image).strip()) or (
        subprocess.run(["docker", "pull", image], capture_output=True, check=False).returncode == 0
    )


def _have_base(folder: Path) -> None:
    if not had(compose.BASE_IMAGE):
        make_base(folder)


@pytest.fixture(scope="module")
def built(engine: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Our images, really built; returns the options with which Compose reads its files."""
    override = tmp_path_factory.mktemp("compose") / "override.yaml"
    override.write_text(yaml.safe_dump(OVERRIDE), "utf-8")
    options = ("compose", "--file", "compose.yaml", "--file", str(override), "--profile", "*")
    begun = time.monotonic()
    docker(*options, "build")
    show(f"\nbuilt in {time.monotonic() - begun:.0f} s")
    return options


def inspect(image: str) -> dict[str, Any]:
    """What the engine knows of an image."""
    inspected: dict[str, Any] = json.loads(docker("image", "inspect", image))[0]
    return inspected


def test_our_images_are_small_labelled_and_without_tools(built: tuple[str, ...]) -> None:
    """An account that is not root, labels, a bounded size for the units, and neither compiler, pip nor Maven."""
    for name in ("units", "flink", "kafka"):
        image = f"placar/{name}:0.1.0"
        known = inspect(image)
        size = known["Size"] / 1e6
        show(f"\n{image}: {size:.0f} MB")
        assert known["Config"]["User"] == "10001:10001"
        assert known["Config"]["Labels"]["org.opencontainers.image.title"] == f"placar/{name}"
        script = "for tool in gcc cc make mvn pip pip3 uv git; do ! command -v $tool || exit 1; done"
        docker("run", "--rm", "--network=none", "--entrypoint=sh", image, "-c", script)
        assert name != "units" or size < UNITS_IMAGE_LIMIT_MB


def test_a_changed_unit_is_soon_in_its_image(built: tuple[str, ...], tmp_path: Path) -> None:
    """Only the last layers are made again."""
    tree = tmp_path / "tree"
    left_out = shutil.ignore_patterns(".git", ".placar", "artifacts", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, tree, ignore=left_out)
    unit = tree / "services" / "api" / "__main__.py"
    unit.write_text(f"{unit.read_text('utf-8')}\nCHANGED = True\n", "utf-8")
    shutil.copy(built[4], tree / "override.yaml")
    begun = time.monotonic()

    docker(
        "compose", "--project-directory", str(tree), "--file", str(tree / "compose.yaml"),
        "--file", str(tree / "override.yaml"), "--profile", "*", "build", "postgres-schema",
        environment={"PLACAR_VERSION": "0.1.0-changed"},
    )  # fmt: skip

    took = time.monotonic() - begun
    show(f"\nrebuilt in {took:.1f} s")
    script = "import services.api.__main__ as unit; assert unit.CHANGED"
    docker("run", "--rm", "--entrypoint=python", "placar/units:0.1.0-changed", "-c", script)
    docker("image", "rm", "placar/units:0.1.0-changed")
    assert took < REBUILD_LIMIT_S


def start(name: str, environment: Mapping[str, str], health: str) -> None:
    """Run a unit's container as compose.yaml confines it, but on the network of this machine."""
    service = SERVICES[name]
    docker(
        "run", "--detach", "--name", f"placar-beside-{name}", "--network=host", "--init", "--read-only", "--tmpfs=/tmp",
        "--cap-drop=ALL", "--security-opt=no-new-privileges:true", f"--memory={service['mem_limit']}",
        *(f"--volume={mount.split(':')[1]}" for mount in service.get("volumes", ())),
        f"--health-cmd={health}", "--health-interval=3s", "--health-timeout=8s", "--health-start-period=180s",
        *(f"--env={variable}={value}" for variable, value in environment.items()),
        service["image"].replace("${PLACAR_VERSION:-0.1.0}", "0.1.0"), *service["command"],
    )  # fmt: skip


def healthy(name: str, deadline: float) -> None:
    """Wait until the container's own health check passes."""
    container = f"placar-beside-{name}"
    while docker("inspect", "--format", "{{.State.Health.Status}}", container).strip() != "healthy":
        assert time.monotonic() < deadline, f"{name} is not healthy:\n{docker('logs', '--tail', '20', container)}"
        time.sleep(1)


def test_the_units_run_as_containers_against_native_servers(
    engine: None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each Python unit starts from its image on the network of this machine, and its health check passes."""
    names = [name for name in UNITS if name != "flink_watcher"]  # it needs the folders of its Flink
    state = tmp_path_factory.mktemp("native")
    with start_runtime(state, ("connector", "ranking-job", "tables", "seed")) as runtime:
        servers = ("KAFKA", "SCHEMA_REGISTRY", "CONNECT", "POSTGRES", "CLICKHOUSE", "FLINK_REST", "LEGACY_SOAP", "BIND")
        ports = {name: runtime.env[name] for name in PORTS}
        environment = {
            **{f"{server}_HOST": "127.0.0.1" for server in servers},
            **ports,
            "LEGACY_SOAP_DATA_DIR": "/var/lib/placar/legacy_soap",
            "SERVER_EXPORTER_DISK": "/var/lib/placar",
        }
        begun = time.monotonic()
        try:
            for name in names:
                url = f"http://127.0.0.1:{ports[f'{name.upper()}_OPS_PORT']}/readyz"
                start(name, environment, f"python -IS deploy/ready.py {url}")
            for name in names:
                healthy(name, begun + 300)
            show(f"\n{len(names)} units healthy after {time.monotonic() - begun:.0f} s")
            page = f"http://127.0.0.1:{ports['API_PORT']}/api/v1"
            assert httpx.get(f"{page}/health", timeout=30).json()["status"] == "UP"
            while not httpx.get(f"{page}/sales/top-by-city", timeout=30).json().get("rankings"):
                assert time.monotonic() < begun + 300, "no ranking"
                time.sleep(1)
            show(f"ranked after {time.monotonic() - begun:.0f} s")
            show(docker("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}"))
        finally:
            there = docker("ps", "--all", "--quiet", "--filter", "name=placar-beside-").split()
            docker("rm", "--force", "--volumes", *there)


def test_the_whole_file_comes_up_and_serves_rankings(built: tuple[str, ...], tmp_path: Path) -> None:
    """Every service of core and observability is healthy or done, and sales are ranked; so they are after a restart."""
    wanted = [
        name
        for name, service in SERVICES.items()
        if {"core", "observability"} & set(service["profiles"]) and name not in NO_STAND_IN
    ]
    stand_ins(tmp_path)
    options = (*built, "--project-name", "placar-whole")
    begun = time.monotonic()
    try:
        docker(*options, "up", "--detach", "--wait", *wanted, environment=FREE)
        show(f"\nup in {time.monotonic() - begun:.0f} s")
        show(docker("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}"))
        ranked()
        show(f"ranked after {time.monotonic() - begun:.0f} s")
        again = time.monotonic()
        docker(*options, "up", "--detach", "--wait", *wanted, environment=FREE)
        show(f"up once more in {time.monotonic() - again:.0f} s")
        docker(*options, "down", environment=FREE)
        docker(*options, "up", "--detach", "--wait", *wanted, environment=FREE)
        ranked()
    except AssertionError:
        show(
            docker(*options, "ps", "--all", environment=FREE),
            docker(*options, "logs", "--tail", "25", environment=FREE),
        )
        raise
    finally:
        docker(*options, "down", "--volumes", environment=FREE)


def stand_ins(folder: Path) -> None:
    """Make what cannot be pulled of the servers that are not ours."""
    services = {}
    for name in STAND_INS:
        image = SERVICES[name]["image"]
        if not had(image):
            build = {"context": str(HERE), "dockerfile": "stand-ins.Dockerfile", "target": name, "network": "host"}
            services[name] = {"image": image, "build": {**build, "args": {"BASE": compose.BASE_IMAGE}}}
    if services:
        file = folder / "stand-ins.yaml"
        file.write_text(yaml.safe_dump({"services": services}), "utf-8")
        docker("compose", "--project-name", "placar-stand-ins", "--file", str(file), "build")


def ranked() -> None:
    """Wait for a whole ranking, and see that Prometheus asks services by their names."""
    deadline = time.monotonic() + 300
    base = f"http://127.0.0.1:{FREE['API_PORT']}/api/v1/sales"
    while True:
        answer = httpx.get(f"{base}/top-by-city", timeout=30)
        if answer.is_success and len(answer.json()["rankings"]) == 10:
            break
        assert time.monotonic() < deadline, answer.text
        time.sleep(1)
    scraped = httpx.get(f"http://127.0.0.1:{FREE['PROMETHEUS_PORT']}/api/v1/targets", timeout=30).json()
    for target in scraped["data"]["activeTargets"]:
        assert re.fullmatch(r"http://\w+:\d+/metrics", target["scrapeUrl"])
