"""The servers of the native runtime: a function for each, with its command, probe and configuration files."""

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from chassis.settings import REGISTRY_DATABASE
from deploy.native import probes
from deploy.native.nodes import Process
from deploy.native.postgres import account, bin_dir, data_dir
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
# categories that ignore the root level unless they get one of their own
REGISTRY_CATEGORIES = ('category."io.apicurio".', 'category."io.quarkus.http.access-log".')
# the identity of a cluster of one
KAFKA_CLUSTER = "cGxhY2FyLXNhbGVzLTAwMQ"
LOG4J = "kafka/log4j2.properties"
FLINK_CONFIGURATION = ("flink/config.yaml", "flink/jmx.yml", "flink/log4j-console.properties")


def _program(*names: str) -> str:
    """The first of these commands that the machine has, with its path; the last name where it has none."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    return next(filter(None, (shutil.which(name, path=path) for name in names)), names[-1])


def clickhouse_command() -> tuple[str, ...]:
    """The server's command: Debian's binary, or the single binary of the vendor's packages."""
    program = _program("clickhouse-server", "clickhouse")
    return (program,) if program.endswith("clickhouse-server") else (program, "server")


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
    """The servers' log level, as Log4j and Prometheus spell it."""
    return (settings.log_level_servers or default).replace("warning", "warn")


def _log(settings: NativeSettings, unit: str) -> tuple[str, ...]:
    """Java's options for what deploy/*/log4j*.properties leaves open."""
    return (f"-Dplacar.unit={unit}", f"-Dplacar.level={_level(settings, 'info')}")


def _java(settings: NativeSettings, unit: str, heap: str, *arguments: str, quick: bool = False) -> tuple[str, ...]:
    log4j = settings.state_dir / "conf" / LOG4J
    own = (f"-Dlog4j2.configurationFile={log4j}", f"-Djava.io.tmpdir={settings.state_dir / 'run' / 'java'}")
    return (*JAVA, *(QUICK if quick else ()), f"-Xmx{heap}", *_log(settings, unit), *own, *arguments)


def _agent(settings: NativeSettings, server: str, port: str) -> str:
    """Java's option for the agent that serves the metrics of deploy/SERVER/jmx.yml at a port, given by its setting."""
    jar = next((settings.home / "jars" / "agent").glob("jmx_prometheus_javaagent-*.jar"), Path("agent.jar"))
    rules = settings.state_dir / "conf" / server / "jmx.yml"
    return f"-javaagent:{jar}={settings.bind_host}:{settings.ports[port]}:{rules}"


def _http(settings: NativeSettings, port: str, path: str) -> probes.Probe:
    return probes.http(f"http://{settings.bind_host}:{settings.ports[port]}{path}")


def kafka(settings: NativeSettings) -> Process:
    """Broker and controller in one; the first start formats its folder."""
    libs = f"{settings.home}/jars/kafka/*"
    properties = str(settings.state_dir / "conf" / "kafka" / "server.properties")
    formatted = settings.state_dir / "data" / "kafka" / "meta.properties"
    tool = f'java -cp "{libs}" kafka.tools.StorageTool format -t {KAFKA_CLUSTER} -c "{properties}"'
    agent = _agent(settings, "kafka", "KAFKA_METRICS_PORT")
    command = _java(settings, "kafka", "256m", agent, "-cp", libs, "kafka.Kafka", properties)
    run = " ".join(f'"{word}"' for word in command)
    return Process(
        "kafka",
        ("sh", "-c", f'[ -f "{formatted}" ] || {tool} --ignore-formatted >/dev/null && exec {run}'),
        probes.kafka(settings.kafka.bootstrap),
        configuration=("kafka/server.properties", "kafka/jmx.yml", LOG4J),
        wave=2,
    )


def postgres(settings: NativeSettings) -> Process:
    """The shop's database, which also stores the registry's and the lineage service's data."""
    binaries, data = bin_dir(), data_dir(settings)
    start, configuration = str(data.parent / "start.sh"), str(data.parent / "postgresql.conf")
    ready = ("-h", settings.postgres.host, "-p", str(settings.ports["POSTGRES_PORT"]), "-q")
    return Process(
        "postgres",
        (*account(), start, str(binaries), str(data), configuration),
        probes.command(str(binaries / "pg_isready"), *ready),
        environment={"POSTGRES_USER": settings.postgres.user, "POSTGRES_PASSWORD": secret(settings.postgres.password)},
        configuration=(start, configuration),
        directory="/",
        stop_signal="INT",  # fast shutdown: sessions are ended, the cluster is closed cleanly
        wave=2,
    )


def registry(settings: NativeSettings) -> Process:
    """The schema registry, which keeps its schemas in Postgres."""
    level = _level(settings, "info").upper()
    jar = next((settings.home / "jars" / "registry").glob("*-runner.jar"), Path("registry-runner.jar"))
    database = f"jdbc:postgresql://{settings.postgres.host}:{settings.ports['POSTGRES_PORT']}/{REGISTRY_DATABASE}"
    options = (
        f"-Dquarkus.http.host={settings.bind_host}",
        f"-Dquarkus.http.port={settings.ports['SCHEMA_REGISTRY_PORT']}",
        *(f"-Dquarkus.log.{category}level={level}" for category in ("", *REGISTRY_CATEGORIES)),
        *REGISTRY_LOG,
    )
    return Process(
        "registry",
        _java(settings, "registry", "128m", *options, "-jar", str(jar), quick=True),
        _http(settings, "SCHEMA_REGISTRY_PORT", "/health/ready"),
        needs=("postgres-schema",),
        environment={
            "APICURIO_STORAGE_KIND": "sql",
            "APICURIO_STORAGE_SQL_KIND": "postgresql",
            "APICURIO_DATASOURCE_URL": database,
            "APICURIO_DATASOURCE_USERNAME": settings.postgres.user,
            "APICURIO_DATASOURCE_PASSWORD": secret(settings.postgres.password),
            "APICURIO_DATASOURCE_JDBC_INITIAL_SIZE": "1",
            "APICURIO_DATASOURCE_JDBC_MIN_SIZE": "1",
            "APICURIO_DATASOURCE_JDBC_MAX_SIZE": "8",
        },
        wave=1,
    )


def connect(settings: NativeSettings) -> Process:
    """A Kafka Connect worker with Debezium."""
    agent = _agent(settings, "connect", "CONNECT_METRICS_PORT")
    main = "org.apache.kafka.connect.cli.ConnectDistributed"
    worker = str(settings.state_dir / "conf" / "connect" / "worker.properties")
    return Process(
        "connect",
        _java(settings, "connect", "256m", agent, "-cp", f"{settings.home}/jars/kafka/*", main, worker, quick=True),
        probes.http(f"{settings.connect.url}/connectors"),
        needs=("kafka",),
        configuration=("connect/worker.properties", "connect/jmx.yml", LOG4J),
        wave=1,
    )


def s3(settings: NativeSettings) -> Process:
    """SeaweedFS as the object store; every port is given, because another process may have its defaults."""
    host, ports = settings.bind_host, settings.ports
    components = ("admin", "master", "volume", "filer", "s3")
    return Process(
        "s3",
        (
            str(Path(sys.executable).parent / "weed"),
            "mini",
            f"-dir={settings.state_dir / 'data' / 's3'}",
            f"-ip={host}",
            f"-ip.bind={host}",
            f"-bucket={settings.s3.bucket}",
            "-admin.ui=false",
            "-webdav=false",
            *(f"-{name}.port={ports[_s3_port(name)]}" for name in components),
            *(f"-{name}.port.grpc={ports[_s3_port(name, 'GRPC_')]}" for name in components),
            f"-metricsPort={ports['S3_METRICS_PORT']}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            # by default in the shared temporary folder, where a killed server's would stop another user's
            f"-s3.localSocket={settings.unix_socket('s3')}",
            f"-filer.localSocket={settings.unix_socket('filer')}",
        ),
        _http(settings, "S3_PORT", "/readyz"),
        environment={
            "AWS_ACCESS_KEY_ID": settings.s3.access_key,
            "AWS_SECRET_ACCESS_KEY": secret(settings.s3.secret_key),
        },
        wave=2,
    )


def _s3_port(component: str, protocol: str = "") -> str:
    """The setting with a component's port: S3_FILER_GRPC_PORT, but S3_PORT for the S3 API itself."""
    return f"S3_{'' if component == 's3' else component.upper() + '_'}{protocol}PORT"


def clickhouse(settings: NativeSettings) -> Process:
    """The served database."""
    return Process(
        "clickhouse",
        (*clickhouse_command(), f"--config-file={settings.state_dir / 'conf' / 'clickhouse' / 'config.xml'}"),
        _http(settings, "CLICKHOUSE_HTTP_PORT", "/ping"),
        configuration=("clickhouse/config.xml", "clickhouse/users.xml"),
        wave=2,
    )


def _flink(
    settings: NativeSettings, name: str, command: Sequence[str], probe: probes.Probe, options: dict[str, str]
) -> Process:
    """A process of Flink; `options` is the variable with its Java options."""
    flink = flink_environment(settings)
    path = f"{Path(flink['FLINK_PYTHON']).parent}:{os.environ['PATH']}"
    environment = {**flink, "PATH": path, **options}
    return Process(name, command, probe, environment=environment, configuration=FLINK_CONFIGURATION, wave=1)


def jobmanager(settings: NativeSettings) -> Process:
    """Flink's coordinator. It never computes: the quick compiler halves what its boot costs."""
    script = f"{flink_environment(settings)['FLINK_HOME']}/bin/jobmanager.sh"
    agent = _agent(settings, "flink", "FLINK_JOBMANAGER_METRICS_PORT")
    options = {"FLINK_ENV_JAVA_OPTS_JM": " ".join((QUICK[0], *_log(settings, "jobmanager"), agent))}
    probe = _http(settings, "FLINK_REST_PORT", "/overview")
    return _flink(settings, "jobmanager", (script, "start-foreground"), probe, options)


def _taskmanager(settings: NativeSettings, name: str) -> Process:
    """Started beside the JobManager; the probe waits for the registration."""
    port = f"FLINK_{name.upper()}"
    command = (
        str(ROOT / "deploy" / "flink" / "taskmanager.sh"),
        name,
        "-Dtaskmanager.host=127.0.0.1",
        f"-Dtaskmanager.rpc.port={settings.ports[f'{port}_PORT']}",
        f"-Dtaskmanager.data.port={settings.ports[f'{port}_DATA_PORT']}",
    )
    agent = _agent(settings, "flink", f"{port}_METRICS_PORT")
    options = {"FLINK_ENV_JAVA_OPTS_TM": " ".join((*HOT, *_log(settings, name), agent))}
    probe = probes.taskmanager(f"http://{settings.bind_host}:{settings.ports['FLINK_REST_PORT']}", name)
    return _flink(settings, name, command, probe, options)


def taskmanager1(settings: NativeSettings) -> Process:
    """The first of two workers of Flink."""
    return _taskmanager(settings, "taskmanager1")


def taskmanager2(settings: NativeSettings) -> Process:
    """The second of two workers of Flink."""
    return _taskmanager(settings, "taskmanager2")


def prometheus(settings: NativeSettings) -> Process:
    """Metrics and alert rules."""
    return Process(
        "prometheus",
        (
            "prometheus",
            f"--config.file={settings.state_dir / 'conf' / 'prometheus' / 'prometheus.yml'}",
            f"--storage.tsdb.path={settings.state_dir / 'data' / 'prometheus'}",
            "--storage.tsdb.retention.time=7d",
            "--storage.tsdb.retention.size=1GB",
            f"--web.listen-address={settings.bind_host}:{settings.ports['PROMETHEUS_PORT']}",
            f"--log.level={_level(settings, 'warning')}",
            "--log.format=json",
        ),
        _http(settings, "PROMETHEUS_PORT", "/-/ready"),
        # it re-reads the files of targets by itself
        configuration=("prometheus/prometheus.yml", "prometheus/recording.yml", "prometheus/alerts.yml"),
    )


def alertmanager(settings: NativeSettings) -> Process:
    """Groups alerts and sends them to the webhook."""
    return Process(
        "alertmanager",
        (
            _program("prometheus-alertmanager", "alertmanager"),
            f"--config.file={settings.state_dir / 'conf' / 'alertmanager' / 'alertmanager.yml'}",
            f"--storage.path={settings.state_dir / 'data' / 'alertmanager'}",
            f"--web.listen-address={settings.bind_host}:{settings.ports['ALERTMANAGER_PORT']}",
            "--cluster.listen-address=",  # a single one: no gossip, no further port
            f"--log.level={_level(settings, 'warning')}",
            "--log.format=json",
        ),
        _http(settings, "ALERTMANAGER_PORT", "/-/ready"),
        configuration=("alertmanager/alertmanager.yml",),
    )


SERVERS: Sequence[Callable[[NativeSettings], Process]] = (
    kafka,
    postgres,
    registry,
    connect,
    s3,
    clickhouse,
    jobmanager,
    taskmanager1,
    taskmanager2,
    prometheus,
    alertmanager,
)
