"""Composition root of the operations dashboard: its HTTP server and its client of Prometheus."""

import httpx

from chassis.asgi import listen, serve
from chassis.unit import Unit
from services.ops import runbook
from services.ops.health import LIMIT_S, HealthCache
from services.ops.prometheus import Prometheus
from services.ops.routes import application
from services.ops.settings import OpsSettings

NAME = "ops"


async def main(unit: Unit, settings: OpsSettings) -> None:
    """Serve until cancelled. It is ready at once: that Prometheus is unavailable is something that the page shows.

    Raises:
        OSError: the port is in use.
    """
    listener = listen(settings.bind_host, settings.port, "OPS_PORT")
    async with httpx.AsyncClient(base_url=settings.prometheus.url, timeout=LIMIT_S) as client:
        health = HealthCache(Prometheus(client), runbook.sections(runbook.text()))
        await serve(application(health, unit.log), listener)
