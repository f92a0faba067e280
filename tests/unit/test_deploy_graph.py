"""The table of processes and the order in which they start."""

import asyncio
import re
import shlex
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest
from supervisor.options import ServerOptions

from deploy.native import graph, render, supervise
from deploy.native.graph import Starter, StartError, closure
from deploy.native.probes import NotReady
from deploy.native.processes import UNITS, Process, Step, processes, steps
from deploy.native.settings import PORTS, ROOT, NativeSettings
from deploy.native.table import CONFIGURATION


def whole_table(settings: NativeSettings) -> dict[str, Process | Step]:
    """Everything that `up` starts, by name."""
    nodes: list[Process | Step] = [*processes(settings), *steps(settings)]
    return {node.name: node for node in nodes}


def test_every_need_exists_and_no_two_need_each_other(settings: NativeSettings) -> None:
    """The real table can be started: all needs are names in it, without a circle."""
    table = whole_table(settings)

    def depth(name: str, above: tuple[str, ...] = ()) -> int:
        assert name not in above, f"circle: {' -> '.join((*above, name))}"
        return 1 + max((depth(need, (*above, name)) for need in table[name].needs), default=0)

    assert all(depth(name) > 0 for name in table)


def test_the_ranking_job_waits_for_neither_the_seed_nor_connect(settings: NativeSettings) -> None:
    """The critical path holds only what the job reads at its start."""
    table = whole_table(settings)

    needed = closure(table, ["ranking-job"])

    assert {"kafka", "registry", "postgres", "jobmanager", "taskmanager1", "taskmanager2"} <= needed
    assert not {"connect", "connector", "seed", "clickhouse", "api"} & needed


def test_lineage_stops_after_those_who_send_it_events(settings: NativeSettings) -> None:
    """At a stop every unit can still emit its last events, and the service store them."""
    waves = {process.name: process.wave for process in processes(settings)}

    assert {waves[unit] for unit in UNITS if unit != "lineage"} == {0}
    assert 0 < waves["lineage"] < waves["postgres"]


def test_an_unknown_name_is_rejected_with_the_names_that_exist(settings: NativeSettings) -> None:
    """A typing error in --only is answered with the names that exist."""
    table: dict[str, Process | Step] = {process.name: process for process in processes(settings)}

    with pytest.raises(StartError, match=r"unknown process 'kafak'; there are .*kafka"):
        closure(table, ["kafak"])


def test_every_port_belongs_to_a_process_of_the_table(settings: NativeSettings) -> None:
    """The process that a port's message names is one that runs."""
    names = {process.name for process in processes(settings)}

    assert {owner for _, owner in PORTS.values()} <= names


class Recorder:
    """Stands for the supervisor: records what is started, and makes each process ready by its probe."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def probe(self, name: str, failures: int = 0) -> Callable[[], Awaitable[None]]:
        """A probe that succeeds after some failures."""
        left = [failures]

        async def attempt() -> None:
            await asyncio.sleep(0)
            if left[0]:
                left[0] -= 1
                raise NotReady("not yet")
            self.events.append(f"{name} ready")

        return attempt

    def start(self, _: NativeSettings, name: str) -> None:
        """Record the start."""
        self.events.append(f"{name} started")

    def info(self, _: NativeSettings) -> dict[str, dict[str, object]]:
        """Whatever was started runs."""
        return {event.removesuffix(" started"): {"statename": "RUNNING"} for event in self.events}


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """The supervisor replaced by a recorder, probes without a pause."""
    stand_in = Recorder()
    monkeypatch.setattr(supervise, "start", stand_in.start)
    monkeypatch.setattr(supervise, "info", stand_in.info)
    monkeypatch.setattr(graph, "PROBE_INTERVAL_S", 0)
    return stand_in


async def test_a_process_starts_only_when_all_its_needs_are_ready(settings: NativeSettings, recorder: Recorder) -> None:
    """Independent processes start at once; a dependent one after the slower of its two needs."""
    nodes = [
        Process("c", (), recorder.probe("c"), needs=("a", "b")),
        Process("a", (), recorder.probe("a", failures=3)),
        Process("b", (), recorder.probe("b")),
    ]

    await Starter(settings, nodes).run()

    assert recorder.events[:2] == ["a started", "b started"]
    assert recorder.events[-2:] == ["c started", "c ready"]


async def test_a_failed_step_ends_the_start_with_its_log(settings: NativeSettings, recorder: Recorder) -> None:
    """What needs a failed step is not started, and the error shows the end of the step's log."""
    nodes: list[Process | Step] = [
        Step("contracts", ("sh", "-c", "echo the registry rejects; exit 3")),
        Process("cdc", (), recorder.probe("cdc"), needs=("contracts",)),
    ]

    with pytest.raises(StartError, match=r"contracts failed with status 3: the registry rejects"):
        await Starter(settings, nodes).run()
    assert recorder.events == []


async def test_a_process_that_crashes_again_and_again_ends_the_start(
    settings: NativeSettings, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One crash while booting is left to the supervisor; the fourth is reported with the end of its log."""
    polls: list[int] = []

    def crashing(times: int) -> Callable[[NativeSettings], dict[str, dict[str, object]]]:
        def info(_: NativeSettings) -> dict[str, dict[str, object]]:
            polls.append(len(polls))
            state = "BACKOFF" if len(polls) <= times else "RUNNING"
            return {"api": {"statename": state, "exitstatus": 1, "stop": len(polls)}}

        polls.clear()
        return info

    (settings.state_dir / "logs" / "api.log").write_text("NameError: name 'x' is not defined\n")

    monkeypatch.setattr(supervise, "info", crashing(3))
    await Starter(settings, [Process("api", (), recorder.probe("api", failures=3))]).run()
    monkeypatch.setattr(supervise, "info", crashing(4))
    with pytest.raises(StartError, match="api ended with status 1: NameError"):
        await Starter(settings, [Process("api", (), recorder.probe("api", failures=9))]).run()


LOST = "connector sales-postgres: the server gave up the slot: changes were missed, run task resnapshot"


async def test_a_step_that_needs_the_operator_is_not_retried(
    settings: NativeSettings, recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    """A lost slot ends `up` with the task to run at its first report, not after three deadlines."""
    tried = settings.state_dir / "tried"
    (settings.state_dir / "logs" / "once.log").write_text(f"{LOST}\n")  # of an earlier `up`
    await Starter(settings, [Step("once", ("sh", "-c", f"[ -e {tried} ] || {{ touch {tried}; exit 1; }}"))]).run()
    assert "trying again" in capsys.readouterr().out
    nodes = [Step("connector", ("sh", "-c", f"echo '{LOST}'; exit 1"))]

    with pytest.raises(StartError, match=r"connector failed with status 1: .*run task resnapshot"):
        await Starter(settings, nodes).run()
    assert "trying again" not in capsys.readouterr().out


async def test_a_unit_that_needs_the_operator_ends_the_start_at_once(
    settings: NativeSettings, monkeypatch: pytest.MonkeyPatch, recorder: Recorder
) -> None:
    """A slot that is lost after the step is reported by the reconciler; `up` does not wait for its deadline."""

    async def probe() -> None:
        recorder.events.append("probed")
        raise NotReady(LOST)

    with pytest.raises(StartError, match=r"connect_watcher is not ready: .*run task resnapshot"):
        await Starter(settings, [Process("connect_watcher", (), probe)]).run()
    assert recorder.events.count("probed") == 1


async def test_a_port_that_another_process_answers_does_not_make_a_process_ready(
    settings: NativeSettings, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A probe that is answered while the process itself does not run is not enough; the message says so."""
    monkeypatch.setattr(supervise, "info", lambda _: {"api": {"statename": "STARTING"}})
    impatient = settings.model_copy(update={"ready_timeout_s": 0.2})

    with pytest.raises(StartError, match="its port answers, but it is starting"):
        await Starter(impatient, [Process("api", (), recorder.probe("api"))]).run()


async def test_a_step_that_is_given_up_leaves_no_child(settings: NativeSettings, recorder: Recorder) -> None:
    """What a step has started itself ends with it when another part of the start fails."""
    pid_file = settings.state_dir / "child.pid"
    nodes: list[Process | Step] = [
        Step("ranking-job", ("sh", "-c", f"sleep 60 & echo $! > {pid_file}; wait")),
        Step("contracts", ("sh", "-c", f"while [ ! -s {pid_file} ]; do :; done; exit 1")),
    ]

    with pytest.raises(StartError, match="contracts failed"):
        await Starter(settings, nodes).run()

    _, alive = psutil.wait_procs(
        [child for child in psutil.process_iter() if child.pid == int(pid_file.read_text())], timeout=5
    )
    assert alive == []


async def test_a_process_that_gave_up_ends_the_start_at_once(
    settings: NativeSettings, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong setting (status 2) is reported with the process's own line, long before the deadline."""
    monkeypatch.setattr(supervise, "info", lambda _: {"cdc": {"statename": "EXITED", "exitstatus": 2}})
    (settings.state_dir / "logs" / "cdc.log").write_text("wrong setting: CDC_EPOCH 'x'\n")

    with pytest.raises(StartError, match=r"cdc ended with status 2: wrong setting: CDC_EPOCH 'x'"):
        await Starter(settings, [Process("cdc", (), recorder.probe("cdc", failures=1000))]).run()


def test_configuration_is_filled_in_and_readable_by_the_supervisor(settings: NativeSettings) -> None:
    """No ${NAME} is left in a file, ports are the settings', and only the owner may read it."""
    path = render.configuration(settings, processes(settings))

    folder = settings.state_dir / "conf"
    for name in CONFIGURATION:
        assert not re.search(r"\$\{[A-Z]", (folder / name).read_text("utf-8")), name
    assert f"rest.port: {settings.ports['FLINK_REST_PORT']}" in (folder / "flink" / "config.yaml").read_text("utf-8")
    options = ServerOptions()
    options.realize(["-c", str(path)])
    programs = {program.name: program for group in options.process_group_configs for program in group.process_configs}
    assert set(programs) == {process.name for process in processes(settings)}
    assert all(program.autorestart for program in programs.values())
    assert path.stat().st_mode & 0o077 == 0


def test_any_value_of_a_setting_reaches_the_process(settings: NativeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password with quotes, %, # and a backslash arrives as it is, and a change makes a changed program."""
    password = """p%(x)s"'\\s ;#$HOME"""
    process = Process("shown", ("sh", "-c", 'printf %s "$POSTGRES_PASSWORD"'), Recorder().probe("shown"))
    before = render.configuration(settings, [process]).read_text("utf-8")
    monkeypatch.setenv("POSTGRES_PASSWORD", password)
    path = render.configuration(settings, [process])
    options = ServerOptions()
    options.realize(["-c", str(path)])

    (program,) = options.process_group_configs[0].process_configs

    shown = subprocess.run(shlex.split(program.command), capture_output=True, text=True, check=True).stdout
    assert shown == password
    assert path.read_text("utf-8") != before


def test_any_value_of_a_setting_is_one_word_of_a_command(settings: NativeSettings) -> None:
    """The table is split into words as by a shell; a value with blanks, quotes or a dollar stays whole."""
    folder, bucket = Path("/srv/pla car's/$home"), 'a "b" ${c}'
    named = settings.model_copy(update={"home": folder, "s3": settings.s3.model_copy(update={"bucket": bucket})})

    commands = {process.name: process.command for process in processes(named)}

    assert f"{folder}/jars/kafka/*" in commands["connect"]
    assert f"-bucket={bucket}" in commands["s3"]


@pytest.mark.parametrize(
    ("file", "restarted"),
    [
        ("kafka/server.properties", {"kafka"}),
        ("connect/jmx.yml", {"connect"}),
        ("clickhouse/users.xml", {"clickhouse"}),
        ("flink/config.yaml", {"jobmanager", "taskmanager1", "taskmanager2", "flink_watcher"}),
        ("prometheus/alerts.yml", {"prometheus"}),
        ("postgres/postgresql.conf", {"postgres"}),
        ("alertmanager/alertmanager.yml", {"alertmanager"}),
    ],
)
def test_a_changed_configuration_file_restarts_the_servers_that_read_it_and_no_other(
    settings: NativeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, restarted: set[str]
) -> None:
    """The supervisor sees a changed program for each process that reads the file, though its command is the same."""
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT / "deploy", checkout / "deploy", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    monkeypatch.setattr(render, "ROOT", checkout)

    def programs() -> dict[str, str]:
        text = render.configuration(settings, processes(settings)).read_text("utf-8")
        return {part.partition("]")[0]: part for part in text.split("[program:")[1:]}

    before = programs()
    assert programs() == before
    with (checkout / "deploy" / file).open("a") as changed:
        changed.write("\n")

    assert {name for name, text in programs().items() if text != before[name]} == restarted


def test_every_configuration_file_is_read_by_a_process(settings: NativeSettings) -> None:
    """A file that no process names would change without a restart; Prometheus re-reads its targets by itself."""
    render.configuration(settings, processes(settings))
    conf = settings.state_dir / "conf"
    read = {conf / name for process in processes(settings) for name in process.configuration}
    written = {path for path in conf.rglob("*.*") if path.parent.name != "processes"}

    unread = {str(path.relative_to(conf)) for path in written - read}

    assert unread == {
        "supervisord.conf",
        "prometheus/targets.json",
        "prometheus/alertmanagers.json",
        "flink/log4j-cli.properties",
    }
