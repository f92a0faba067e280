"""The reason that a probe gives for a process that is not ready."""

import pytest

from chassis import ops
from chassis.metrics import EVERY, Metrics
from chassis.ops import Readiness
from deploy.native import probes
from deploy.native.ports import free_ports


async def test_a_unit_that_waits_is_told_by_what_it_waits_for() -> None:
    """The reason itself, without address, status and JSON around it; ready when nothing is missing."""
    port, readiness = int(free_ports()["API_OPS_PORT"]), Readiness()
    probe = probes.http(f"http://127.0.0.1:{port}/readyz")
    with pytest.raises(probes.NotReady, match=f"http://127.0.0.1:{port}/readyz: ClientConnector"):
        await probe()
    async with ops.serve("127.0.0.1", port, readiness, Metrics("shown", EVERY)):
        readiness.waiting("connector sales", "task 0 FAILED: no slot")
        readiness.met("start")
        with pytest.raises(probes.NotReady, match=r"^connector sales: task 0 FAILED: no slot$"):
            await probe()
        readiness.met("connector sales")
        await probe()
        with pytest.raises(probes.NotReady, match=f"http://127.0.0.1:{port}/nowhere: 404"):
            await probes.http(f"http://127.0.0.1:{port}/nowhere")()
