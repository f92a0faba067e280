"""The servers of the native runtime: a function for each, with its command, probe and configuration files."""

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from chassis.settings import REGISTRY_DATABASE
from deploy.native import probes
from deploy.native.flink import jobmanager, taskmanager1, taskmanager2
from deploy.native.java import LOG4J, java_command, log_level, metrics_agent
from deploy.native.nodes import Process
from deploy.native.postgres import account, bin_dir, data_dir
from deploy.native.settings import NativeSettings, secret

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


def _program(*names: str) -> str:
    """The first of these commands that the machine has, with its path; the last name where it has none."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    return next(filter(None, (shutil.which(name, path=path) for name in names)), names[-1])


def clickhouse_command() -> tuple[str, ...]:
    """The server's command: Debian's binary, or the single binary of the vendor's packages."""
    program = _program("clickhouse-server", "clickhouse")
    return (program,) if program.endswith("clickhouse-server") else (program, "server")


def _http(settings: NativeSettings, port: str, path: str) -> probes.Probe:
    return probes.http(f"http://{settings.bind_host}:{settings.ports[port]}{path}")


def kafka(settings: NativeSettings) -> Process:
    """Broker and controller in one; the first start formats its folder."""
    libs = f"{settings.home}/jars/kafka/*"
    properties = str(settings.state_dir / "conf" / "kafka" / "server.properties")
    formatted = settings.state_dir / "data" / "kafka" / "meta.properties"
    tool = f'java -cp "{libs}" kafka.tools.StorageTool format -t {KAFKA_CLUSTER} -c "{properties}"'
    agent = metrics_agent(settings, "kafka", "KAFKA_METRICS_PORT")
    command = java_command(settings, "kafka", "256m", agent, "-cp", libs, "kafka.Kafka", properties)
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
    level = log_level(settings, "info").upper()
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
        java_command(settings, "registry", "128m", *options, "-jar", str(jar), quick=True),
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
    agent = metrics_agent(settings, "connect", "CONNECT_METRICS_PORT")
    main = "org.apache.kafka.connect.cli.ConnectDistributed"
    worker = str(settings.state_dir / "conf" / "connect" / "worker.properties")
    return Process(
        "connect",
        java_command(
            settings, "connect", "256m", agent, "-cp", f"{settings.home}/jars/kafka/*", main, worker, quick=True
        ),
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
            f"--log.level={log_level(settings, 'warning')}",
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
            f"--log.level={log_level(settings, 'warning')}",
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
