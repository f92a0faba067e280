"""Pure: the connector's configuration from its template, and what its status asks for."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from string import Template
from typing import Any, Literal

from contracts.json_avro import records
from contracts.versions import unpack_postgres

Action = Literal["create", "restart", "wait", "none"]
# words of a stack trace -> what helps against it
REMEDIES = {
    "no longer available on the server": "changes were missed, run task resnapshot",
    "slot has been invalidated": "changes were missed, run task resnapshot",
    "the slot is older than the snapshot": "the snapshot was interrupted, run task resnapshot",
    "null used for required field": "a row holds NaN, correct it and run task resnapshot",
    "Incompatible artifact": "the changed table breaks the contract, see docs/schema-changes.md",
}


class TemplateError(Exception):
    """The template is not a JSON object of strings, or names a setting that does not exist."""


@dataclass(frozen=True)
class Verdict:
    """What to do about the connector, and why in one line; `none` means that it runs."""

    action: Action
    why: str


def configuration(template: str, values: Mapping[str, str]) -> dict[str, str]:
    """The configuration that Connect takes: each ${NAME} of the template's values filled in.

    Raises:
        TemplateError: the template is wrong; the message names the key, never a value that was filled in.
    """
    try:
        parsed = json.loads(template)
    except ValueError as error:
        raise TemplateError(f"not JSON: {error}") from error
    if not isinstance(parsed, dict) or not all(isinstance(value, str) for value in parsed.values()):
        raise TemplateError("not a JSON object whose values are strings")
    filled = {}
    for key, text in parsed.items():
        try:
            filled[key] = Template(text).substitute(values)
        except (KeyError, ValueError) as error:
            raise TemplateError(f"{key}: no such setting: {error}") from None
    return filled


def hide(text: str, secret: str) -> str:
    """The text without the secret."""
    return text.replace(secret, "(hidden)") if secret else text


def reason(trace: str) -> str:
    """Why something failed: the first line of a Java stack trace, and its root cause where that is another one."""
    lines = trace.strip().splitlines() or ["no trace"]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    return f"{lines[0]} (cause: {causes[-1]})" if causes and causes[-1] not in lines[0] else lines[0]


def remedy(trace: str) -> str:
    """What helps against a failure whose stack trace this is; empty where that is not known."""
    return next((f"{what}: " for words, what in REMEDIES.items() if words in trace), "")


def verdict(status: Mapping[str, Any] | None) -> Verdict:
    """What a status (GET /connectors/NAME/status; None for 404) asks for.

    A connector or task that somebody paused or stopped is left alone.
    """
    if status is None:
        return Verdict("create", "the connector does not exist")
    parts = [("connector", status["connector"]), *((f"task {task['id']}", task) for task in status["tasks"])]
    traces = [(name, part.get("trace", "")) for name, part in parts if part["state"] == "FAILED"]
    failed = [f"{name} FAILED: {remedy(trace)}{reason(trace)}" for name, trace in traces]
    if failed:
        return Verdict("restart", "; ".join(failed))
    others = [f"{name} is {part['state']}" for name, part in parts if part["state"] != "RUNNING"]
    if others:
        return Verdict("wait", "; ".join(others))
    if not status["tasks"]:
        return Verdict("wait", "no task is assigned yet")
    return Verdict("none", "connector and tasks RUNNING")


def lacks_columns(written: Mapping[str, Any], contract: Mapping[str, Any]) -> bool:
    """Whether the rows of a registered schema lack a column that the contract reads."""
    columns = [{field["name"] for field in dict(records(schema))["Value"]["fields"]} for schema in (written, contract)]
    return not columns[0] >= columns[1]


@dataclass(frozen=True)
class Published:
    """The newest record of a sale: its version, whether it says that the sale is gone, and its bytes."""

    version: int
    deleted: bool
    value: bytes


def newest(known: Published | None, other: Published) -> Published:
    """The one with the higher version; of two equal ones the first."""
    return other if known is None or other.version > known.version else known


def log_behind(versions: Iterable[int], position: int) -> str | None:
    """Why new changes would lose against published ones, or None.

    `position` is where the database's log is now, in bytes. It is below a published position only where the database
    was restored; then the epoch must be raised.
    """
    epoch, seen = unpack_postgres(max(versions, default=0))
    if seen <= position:
        return None
    return (
        f"the database's log is at {position}, but changes up to {seen} were published under epoch {epoch}: it was"
        f" restored. Set CDC_EPOCH={epoch + 1}, restart cdc, then run task resnapshot -- --restored"
    )


def deletion(event: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """That a sale is gone. Its version is above what it deletes and below every later change of the row.

    Positions in the log are multiples of eight, so that none lies between.
    """
    seen = now.replace(microsecond=now.microsecond // 1000 * 1000)
    return {**event, "version": event["version"] + 1, "deleted": True, "ingestion_time": seen}
