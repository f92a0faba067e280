"""The ranking job as Flink's REST API shows it."""

from dataclasses import dataclass
from typing import Any

import httpx

from tests.rankings import jobs
from tests.runtime import Runtime

ENDED = ("FAILED", "CANCELED", "FINISHED")


@dataclass(frozen=True)
class Job:
    """A live job of our name: its id, whether every task runs, when it last began to restart (epoch ms; 0: never)."""

    job_id: str
    running: bool
    restarted_ms: int


async def _get(runtime: Runtime, path: str) -> Any:
    """An answer; None while the JobManager is unavailable or does not know the path."""
    url = f"http://127.0.0.1:{runtime.env['FLINK_REST_PORT']}{path}"
    async with httpx.AsyncClient(timeout=5) as client:
        try:
            answer = await client.get(url)
        except httpx.TransportError:
            return None
    return answer.json() if answer.is_success else None


async def alive(runtime: Runtime) -> list[Job]:
    """Every job that runs or will by itself; fails where one is not the ranking job, as nobody asked for a rebuild."""
    living = []
    for job in await jobs(runtime):
        if job["state"] in ENDED:
            continue
        assert job["name"] == "ranking", f"{job['name']} runs"
        detail = await _get(runtime, f"/jobs/{job['jid']}")
        if detail is not None:
            running = job["state"] == "RUNNING" and 0 < job["tasks"]["total"] == job["tasks"]["running"]
            living.append(Job(job["jid"], running, detail["timestamps"]["RESTARTING"]))
    return living


async def hosts(runtime: Runtime, job_id: str) -> set[str]:
    """The TaskManagers that run tasks of the job."""
    detail = await _get(runtime, f"/jobs/{job_id}") or {"vertices": []}
    vertices = [await _get(runtime, f"/jobs/{job_id}/vertices/{vertex['id']}") for vertex in detail["vertices"]]
    return {subtask["taskmanager-id"] for vertex in vertices if vertex for subtask in vertex["subtasks"]}


async def restored_checkpoint(runtime: Runtime, job_id: str) -> int | None:
    """The number of the checkpoint that the job last continued from; None where it began afresh."""
    checkpoints = await _get(runtime, f"/jobs/{job_id}/checkpoints")
    restored = (checkpoints or {}).get("latest", {}).get("restored")
    return int(restored["id"]) if restored else None


async def completed_checkpoint(runtime: Runtime, job_id: str) -> tuple[int, float]:
    """The number of the newest complete checkpoint of the job, and when it was begun (epoch seconds); 0 for none."""
    checkpoints = await _get(runtime, f"/jobs/{job_id}/checkpoints")
    newest = (checkpoints or {}).get("latest", {}).get("completed")
    return (int(newest["id"]), newest["trigger_timestamp"] / 1000) if newest else (0, 0.0)
