"""Flink's REST API, as far as one job needs it."""

import asyncio
from typing import Any

import httpx

from services.flink_watcher.transform import Job, NotDoneError, Version

CODE, STATE = "placar.code", "placar.state"
"""Under these names the job carries its version (pipeline.global-job-parameters)."""


class RejectedError(NotDoneError):
    """Flink answered and rejected; the message is its reason."""


class Flink:
    """The JobManager. Every method raises httpx.TransportError when it is down and RejectedError when it rejects."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def _call(self, method: str, path: str, body: Any = None) -> Any:
        response = await self._client.request(method, path, json=body)
        if response.is_error:
            raise RejectedError(f"{method} {path} → {response.status_code}: {' '.join(response.text.split())[:500]}")
        return response.json() if response.content else {}

    async def jobs(self, name: str) -> list[Job]:
        """Every job of that name that the JobManager knows, ended ones too."""
        overview = await self._call("GET", "/jobs/overview")
        named = [job for job in overview["jobs"] if job["name"] == name]
        versions = await asyncio.gather(*(self._version(job["jid"]) for job in named))
        return [
            Job(
                job_id=job["jid"],
                status=job["state"],
                version=version,
                started_ms=job["start-time"],
                quiet_ms=job["start-time"] + job["duration"] - job["last-modification"],
                tasks=job["tasks"]["total"],
                tasks_running=job["tasks"]["running"],
            )
            for job, version in zip(named, versions, strict=True)
        ]

    async def _version(self, job_id: str) -> Version | None:
        config = await self._call("GET", f"/jobs/{job_id}/config")
        carried = config.get("execution-config", {}).get("user-config", {})
        return Version(carried[CODE], carried[STATE]) if CODE in carried and STATE in carried else None

    async def exceptions(self, job_id: str) -> str:
        """What the job failed with lately, as text."""
        history = await self._call("GET", f"/jobs/{job_id}/exceptions")
        return "\n".join(entry.get("stacktrace", "") for entry in history["exceptionHistory"]["entries"])

    async def restarts(self, job_id: str) -> int:
        """How often Flink itself restarted the job since it was submitted."""
        metrics = await self._call("GET", f"/jobs/{job_id}/metrics?get=numRestarts")
        return int(float(metrics[0]["value"])) if metrics else 0

    async def cancel(self, job_id: str) -> None:
        """End the job; its newest checkpoint stays."""
        await self._call("PATCH", f"/jobs/{job_id}?mode=cancel")

    async def stop(self, job_id: str, folder: str, timeout: float) -> str:
        """Stop the job with a savepoint below `folder` and return the savepoint's address.

        Raises:
            RejectedError: it could not be made, or not within `timeout` seconds.
        """
        operation = await self._call("POST", f"/jobs/{job_id}/stop", {"drain": False, "targetDirectory": folder})
        try:
            async with asyncio.timeout(timeout):
                while True:
                    answer = await self._call("GET", f"/jobs/{job_id}/savepoints/{operation['request-id']}")
                    if answer["status"]["id"] == "COMPLETED":
                        break
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise RejectedError(f"no savepoint of job {job_id} after {timeout:g} s") from None
        result = answer["operation"]
        if "location" not in result:
            why = result.get("failure-cause", {}).get("stack-trace", "no reason given").splitlines()[0]
            raise RejectedError(f"no savepoint of job {job_id}: {why}")
        return str(result["location"])
