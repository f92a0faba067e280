"""The table of what runs: servers, one-shot steps and units, with what each needs and how it shows that it is ready."""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deploy.native import probes
from deploy.native.postgres import account, bin_dir, data_dir
from deploy.native.probes import Probe
from deploy.native.settings import ROOT, NativeSettings, secret

JAVA = ("java", "-Xms64m", "-XX:+UseSerialGC", "-XX:MaxDirectMemorySize=128m", "-Djava.awt.headless=true")
# boots faster, and is fast enough for a registry and a connector; the broker keeps the full compiler
QUICK = ("-XX:TieredStopAtLevel=1", "-Xshare:auto")
# only what runs for every record is worth the optimising compiler: at its usual thresholds (a tenth of these) it takes
# a quarter of all CPU of the first minutes, mostly for what a start does once
HOT = (
    "-XX:+UseParallelGC",
    "-XX:Tier4InvocationThreshold=50000",
    "-XX:Tier4MinInvocationThreshold=6000",
    "-XX:Tier4CompileThreshold=150000",
    "-XX:Tier4BackEdgeThreshold=400000",
)

# one JSON object per line, with the keys of our own units
REGISTRY_LOG = (
    "-Dquarkus.banner.enabled=false",
    "-Dquarkus.log.console.json=true",
    "-Dquarkus.log.console.json.exception-output-type=formatted",
    "-Dquarkus.log.console.json.key-overrides=MESSAGE=event,LOGGER_NAME=logger,THREAD_NAME=thread,STACK_TRACE=exception",
    "-Dquarkus.log.console.json.excluded-keys=sequence,loggerClassName,hostName,processName,processId,threadId,ndc,mdc",
    '-Dquarkus.log.console.json.additional-field."unit".value=registry',
)
# of these the registry decides itself, whatever its level is, unless it is told
REGISTRY_CATEGORIES = ('category."io.apicurio".', 'category."io.quarkus.http.access-log".')


@dataclass(frozen=True)
class Process:
    """Something that the supervisor keeps running; ready when `probe` no longer raises."""

    name: str
    command: Sequence[str]
    probe: Probe
    needs: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: str = str(ROOT)
    stop_signal: str = "TERM"
    wave: int = 0


@dataclass(frozen=True)
class Step:
    """A command that runs once to its end; done when it exits with 0."""

    name: str
    command: Sequence[str]
    needs: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


def clickhouse_command() -> tuple[str, ...]:
    """The server's command: Debian's binary, or the single binary of the vendor's packages."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    server = shutil.which("clickhouse-server", path=path)
    if server:
        return (server,)
    single = shutil.which("clickhouse", path=path) or "clickhouse"
    return (single, "server")


def alertmanager_command() -> str:
    """The server's command: Debian's name for it, or its own."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    return shutil.which("prometheus-alertmanager", path=path) or "alertmanager"


def flink_environment(settings: NativeSettings) -> dict[str, str]:
    """What Flink's scripts need to run from the wheel, untouched, with our configuration."""
    venv = settings.home / "flink-venv"
    home = venv / "lib" / "python3.11" / "site-packages" / "pyflink"
    state = settings.state_dir
    return {
        "FLINK_HOME": str(home),
        "FLINK_CONF_DIR": str(state / "conf" / "flink"),
        "FLINK_LOG_DIR": str(state / "logs" / "flink"),
        "FLINK_LIB_DIR": str(settings.home / "flink-lib"),
        "FLINK_PLUGINS_DIR": str(home / "plugins"),
        "FLINK_OPT_DIR": str(home / "opt"),
        "FLINK_PID_DIR": str(state / "run"),
        "FLINK_PYTHON": str(venv / "bin" / "python"),
        "FLINK_CHECKPOINTS_DIR": str(state / "flink" / "checkpoints"),
        "FLINK_SAVEPOINTS_DIR": str(state / "flink" / "savepoints"),
    }


def _level(settings: NativeSettings, default: str) -> str:
    """How much a server logs, in the words of Log4j and of Prometheus."""
    return (settings.log_level_servers or default).replace("warning", "warn")


def _log(settings: NativeSettings, unit: str) -> tuple[str, ...]:
    """Java's options for what deploy/*/log4j*.properties leaves open."""
    return (f"-Dplacar.unit={unit}", f"-Dplacar.level={_level(settings, 'info')}")


def _java(settings: NativeSettings, unit: str, heap: str, *arguments: str, quick: bool = False) -> tuple[str, ...]:
    log4j = settings.state_dir / "conf" / "kafka" / "log4j2.properties"
    own = (f"-Dlog4j2.configurationFile={log4j}", f"-Djava.io.tmpdir={settings.state_dir / 'run' / 'java'}")
    return (*JAVA, *(QUICK if quick else ()), f"-Xmx{heap}", *_log(settings, unit), *own, *arguments)


def agent(settings: NativeSettings, server: str, port: str) -> str:
    """Java's option for the agent that serves a server's metrics: at which port; deploy/SERVER/jmx.yml says which."""
    jar = next((settings.home / "jars" / "agent").glob("jmx_prometheus_javaagent-*.jar"), Path("agent.jar"))
    rules = settings.state_dir / "conf" / server / "jmx.yml"
    return f"-javaagent:{jar}={settings.bind_host}:{settings.ports[port]}:{rules}"


def _kafka(settings: NativeSettings) -> Process:
    libs = f"{settings.home}/jars/kafka/*"
    properties = str(settings.state_dir / "conf" / "kafka" / "server.properties")
    formatted = settings.state_dir / "data" / "kafka" / "meta.properties"
    # the identity of a cluster of one; the storage tool leaves a formatted folder alone
    cluster = "cGxhY2FyLXNhbGVzLTAwMQ"
    format_ = (
        f'java -cp "{libs}" kafka.tools.StorageTool format -t {cluster} -c "{properties}" --ignore-formatted >/dev/null'
    )
    metrics = agent(settings, "kafka", "KAFKA_METRICS_PORT")
    run = " ".join(
        f'"{word}"' for word in _java(settings, "kafka", "256m", metrics, "-cp", libs, "kafka.Kafka", properties)
    )
    return Process(
        "kafka",
        ("sh", "-c", f'[ -f "{formatted}" ] || {format_} && exec {run}'),
        probes.kafka(settings.kafka.bootstrap),
        wave=2,
    )


def _servers(settings: NativeSettings) -> list[Process]:
    state, ports, host = settings.state_dir, settings.ports, settings.bind_host
    conf, data = state / "conf", state / "data"
    postgres_bin = bin_dir()
    flink = flink_environment(settings)
    flink_rest = f"http://{host}:{ports['FLINK_REST_PORT']}"
    flink_path = {"PATH": f"{Path(flink['FLINK_PYTHON']).parent}:{os.environ['PATH']}"}

    def taskmanager(number: int) -> Process:
        name = f"taskmanager{number}"
        prefix = name.upper()
        return Process(
            name,
            (
                str(ROOT / "deploy" / "flink" / "taskmanager.sh"),
                name,
                "-Dtaskmanager.host=127.0.0.1",
                f"-Dtaskmanager.rpc.port={ports[f'FLINK_{prefix}_PORT']}",
                f"-Dtaskmanager.data.port={ports[f'FLINK_{prefix}_DATA_PORT']}",
            ),
            probes.taskmanager(flink_rest, name),
            # started beside the JobManager; the probe waits for the registration
            environment={
                **flink,
                **flink_path,
                "FLINK_ENV_JAVA_OPTS_TM": " ".join(
                    (*HOT, *_log(settings, name), agent(settings, "flink", f"FLINK_{prefix}_METRICS_PORT"))
                ),
            },
            wave=1,
        )

    return [
        _kafka(settings),
        Process(
            "postgres",
            (
                *account(),
                str(data_dir(settings).parent / "start.sh"),
                str(postgres_bin),
                str(data_dir(settings)),
                str(data_dir(settings).parent / "postgresql.conf"),
            ),
            probes.command(
                str(postgres_bin / "pg_isready"), "-h", settings.postgres.host, "-p", str(ports["POSTGRES_PORT"]), "-q"
            ),
            environment={
                "POSTGRES_USER": settings.postgres.user,
                "POSTGRES_PASSWORD": secret(settings.postgres.password),
            },
            directory="/",
            stop_signal="INT",  # fast shutdown: sessions are ended, the cluster is closed cleanly
            wave=2,
        ),
        Process(
            "registry",
            _java(
                settings,
                "registry",
                "128m",
                f"-Dquarkus.http.host={host}",
                f"-Dquarkus.http.port={ports['SCHEMA_REGISTRY_PORT']}",
                *(f"-Dquarkus.log.{of}level={_level(settings, 'info').upper()}" for of in ("", *REGISTRY_CATEGORIES)),
                *REGISTRY_LOG,
                "-jar",
                str(next((settings.home / "jars" / "registry").glob("*-runner.jar"), Path("registry-runner.jar"))),
                quick=True,
            ),
            probes.http(f"http://{host}:{ports['SCHEMA_REGISTRY_PORT']}/health/ready"),
            needs=("postgres-schema",),
            environment={
                "APICURIO_STORAGE_KIND": "sql",
                "APICURIO_STORAGE_SQL_KIND": "postgresql",
                "APICURIO_DATASOURCE_URL": f"jdbc:postgresql://{settings.postgres.host}:{ports['POSTGRES_PORT']}/registry",
                "APICURIO_DATASOURCE_USERNAME": settings.postgres.user,
                "APICURIO_DATASOURCE_PASSWORD": secret(settings.postgres.password),
                "APICURIO_DATASOURCE_JDBC_INITIAL_SIZE": "1",
                "APICURIO_DATASOURCE_JDBC_MIN_SIZE": "1",
                "APICURIO_DATASOURCE_JDBC_MAX_SIZE": "8",
            },
            wave=1,
        ),
        Process(
            "connect",
            _java(
                settings,
                "connect",
                "256m",
                agent(settings, "connect", "CONNECT_METRICS_PORT"),
                "-cp",
                f"{settings.home}/jars/kafka/*",
                "org.apache.kafka.connect.cli.ConnectDistributed",
                str(conf / "connect" / "worker.properties"),
                quick=True,
            ),
            probes.http(f"{settings.connect.url}/connectors"),
            needs=("kafka",),
            wave=1,
        ),
        Process(
            "s3",
            (
                str(Path(sys.executable).parent / "weed"),
                "mini",
                f"-dir={data / 's3'}",
                f"-ip={host}",
                f"-ip.bind={host}",
                f"-bucket={settings.s3.bucket}",
                "-admin.ui=false",
                "-webdav=false",
                f"-admin.port={ports['S3_ADMIN_PORT']}",
                f"-admin.port.grpc={ports['S3_ADMIN_GRPC_PORT']}",
                f"-master.port={ports['S3_MASTER_PORT']}",
                f"-master.port.grpc={ports['S3_MASTER_GRPC_PORT']}",
                f"-volume.port={ports['S3_VOLUME_PORT']}",
                f"-volume.port.grpc={ports['S3_VOLUME_GRPC_PORT']}",
                f"-filer.port={ports['S3_FILER_PORT']}",
                f"-filer.port.grpc={ports['S3_FILER_GRPC_PORT']}",
                f"-s3.port={ports['S3_PORT']}",
                f"-s3.port.grpc={ports['S3_GRPC_PORT']}",
                f"-metricsPort={ports['S3_METRICS_PORT']}",
                "-s3.port.iceberg=0",
                "-s3.port.lance=0",
                # by default in the shared temporary folder, where a killed server's would stop another user's
                f"-s3.localSocket={settings.unix_socket('s3')}",
                f"-filer.localSocket={settings.unix_socket('filer')}",
            ),
            probes.http(f"http://{host}:{ports['S3_PORT']}/readyz"),
            environment={
                "AWS_ACCESS_KEY_ID": settings.s3.access_key,
                "AWS_SECRET_ACCESS_KEY": secret(settings.s3.secret_key),
            },
            wave=2,
        ),
        Process(
            "clickhouse",
            (*clickhouse_command(), f"--config-file={conf / 'clickhouse' / 'config.xml'}"),
            probes.http(f"http://{host}:{ports['CLICKHOUSE_HTTP_PORT']}/ping"),
            wave=2,
        ),
        Process(
            "jobmanager",
            (f"{flink['FLINK_HOME']}/bin/jobmanager.sh", "start-foreground"),
            probes.http(f"{flink_rest}/overview"),
            environment={
                **flink,
                **flink_path,
                # it coordinates and never computes: the quick compiler halves what its boot costs
                "FLINK_ENV_JAVA_OPTS_JM": " ".join(
                    [
                        QUICK[0],
                        *_log(settings, "jobmanager"),
                        agent(settings, "flink", "FLINK_JOBMANAGER_METRICS_PORT"),
                    ]
                ),
            },
            wave=1,
        ),
        taskmanager(1),
        taskmanager(2),
        Process(
            "prometheus",
            (
                "prometheus",
                f"--config.file={conf / 'prometheus' / 'prometheus.yml'}",
                f"--storage.tsdb.path={data / 'prometheus'}",
                "--storage.tsdb.retention.time=7d",
                "--storage.tsdb.retention.size=1GB",
                f"--web.listen-address={host}:{ports['PROMETHEUS_PORT']}",
                f"--log.level={_level(settings, 'warning')}",
                "--log.format=json",
            ),
            probes.http(f"http://{host}:{ports['PROMETHEUS_PORT']}/-/ready"),
        ),
        Process(
            "alertmanager",
            (
                alertmanager_command(),
                f"--config.file={conf / 'alertmanager' / 'alertmanager.yml'}",
                f"--storage.path={data / 'alertmanager'}",
                f"--web.listen-address={host}:{ports['ALERTMANAGER_PORT']}",
                "--cluster.listen-address=",  # one of its own: no gossip, no further port
                f"--log.level={_level(settings, 'warning')}",
                "--log.format=json",
            ),
            probes.http(f"http://{host}:{ports['ALERTMANAGER_PORT']}/-/ready"),
            # it reads the address from its configuration; here, so that a changed one starts it anew
            environment={"ALERT_WEBHOOK_URL": settings.alert_webhook_url},
        ),
    ]


# unit -> (module, what it needs besides what its own backoff waits for)
UNITS: Mapping[str, tuple[str, Sequence[str]]] = {
    "cdc": ("streams.cdc", ("contracts",)),
    "files": ("streams.files", ("contracts",)),
    "legacy": ("streams.legacy", ("contracts",)),
    "legacy_soap": ("services.legacy_soap", ()),
    "file_poller": ("services.file_poller", ("contracts", "s3")),
    "legacy_poller": ("services.legacy_poller", ("contracts", "legacy_soap")),
    "clickhouse_sink": ("services.clickhouse_sink", ("contracts", "tables")),
    "api": ("services.api", ("contracts", "tables")),
    "lineage": ("services.lineage", ("postgres-schema",)),
    "connect_watcher": ("services.connect_watcher", ("connector",)),
    "flink_watcher": ("services.flink_watcher", ("ranking-job",)),
    "server_exporter": ("services.server_exporter", ("kafka", "postgres-schema", "tables")),
}


def steps(settings: NativeSettings) -> list[Step]:
    """The one-shot steps."""
    python = sys.executable
    return [
        Step("postgres-schema", (python, "-m", "deploy.native.postgres"), ("postgres",)),
        Step("contracts", (python, "-m", "chassis.publish"), ("kafka", "registry")),
        Step("tables", (python, "-m", "services.clickhouse_sink.ddl"), ("clickhouse",)),
        Step("seed", (python, "-m", "tools.traffic", "seed", "--initial"), ("postgres-schema", "s3")),
        Step(
            "connector",
            (python, "-m", "services.connect_watcher", "--once"),
            ("connect", "contracts", "postgres-schema"),
        ),
        Step(
            "ranking-job",
            (python, "-m", "services.flink_watcher", "--once"),
            ("jobmanager", "taskmanager1", "taskmanager2", "contracts"),
            environment=flink_environment(settings),
        ),
    ]


def processes(settings: NativeSettings) -> list[Process]:
    """Every server and unit."""
    host = settings.bind_host
    units = [
        Process(
            name,
            (sys.executable, "-m", module),
            probes.http(f"http://{host}:{settings.ports[f'{name.upper()}_OPS_PORT']}/readyz"),
            needs,
            environment=flink_environment(settings) if name == "flink_watcher" else {},
            wave=1 if name == "lineage" else 0,  # it takes the last word of all others
        )
        for name, (module, needs) in UNITS.items()
    ]
    return [*_servers(settings), *units]


def environment(settings: NativeSettings) -> dict[str, str]:
    """What every process gets besides the environment of `up`: where the state is."""
    state = settings.state_dir
    return {
        "PLACAR_HOME": str(settings.home),
        "PLACAR_STATE": str(state),
        "PLACAR_RUNTIME": str(state),  # tells our processes from others when the supervisor is gone
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "LINEAGE_FILE_DIR": os.environ.get("LINEAGE_FILE_DIR", str(state / "lineage")),
        "SERVER_EXPORTER_DISK": os.environ.get("SERVER_EXPORTER_DISK", str(state)),
        "LEGACY_SOAP_DATA_DIR": os.environ.get("LEGACY_SOAP_DATA_DIR", str(state / "data" / "legacy_soap")),
    }
