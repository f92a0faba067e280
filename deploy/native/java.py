"""Java's options, which the servers in Java share."""

from pathlib import Path

from deploy.native.settings import NativeSettings

JAVA = ("java", "-Xms64m", "-XX:+UseSerialGC", "-XX:MaxDirectMemorySize=128m", "-Djava.awt.headless=true")
# boots faster, and is fast enough for a registry and a connector; the broker keeps the full compiler
QUICK = ("-XX:TieredStopAtLevel=1", "-Xshare:auto")
LOG4J = "kafka/log4j2.properties"


def log_level(settings: NativeSettings, default: str) -> str:
    """The servers' log level, as Log4j and Prometheus spell it."""
    return (settings.log_level_servers or default).replace("warning", "warn")


def log_options(settings: NativeSettings, unit: str) -> tuple[str, ...]:
    """Java's options for what deploy/*/log4j*.properties leaves open."""
    return (f"-Dplacar.unit={unit}", f"-Dplacar.level={log_level(settings, 'info')}")


def java_command(
    settings: NativeSettings, unit: str, heap: str, *arguments: str, quick: bool = False
) -> tuple[str, ...]:
    """A server's command with all options that the servers share; `quick` for one that computes little."""
    log4j = settings.state_dir / "conf" / LOG4J
    own = (f"-Dlog4j2.configurationFile={log4j}", f"-Djava.io.tmpdir={settings.state_dir / 'run' / 'java'}")
    return (*JAVA, *(QUICK if quick else ()), f"-Xmx{heap}", *log_options(settings, unit), *own, *arguments)


def metrics_agent(settings: NativeSettings, server: str, port: str) -> str:
    """Java's option for the agent that serves the metrics of deploy/SERVER/jmx.yml at a port, given by its setting."""
    jar = next((settings.home / "jars" / "agent").glob("jmx_prometheus_javaagent-*.jar"), Path("agent.jar"))
    rules = settings.state_dir / "conf" / server / "jmx.yml"
    return f"-javaagent:{jar}={settings.bind_host}:{settings.ports[port]}:{rules}"
