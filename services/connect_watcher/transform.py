"""Pure: the connector's configuration from its template, and what its status asks for."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Template
from typing import Any, Literal

Action = Literal["create", "restart", "wait", "none"]


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


def hide(text: str, secrets: Sequence[str]) -> str:
    """The text without any of the secrets."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "(hidden)")
    return text


def reason(trace: str) -> str:
    """Why something failed: the first line of a Java stack trace, and its root cause where that is another one."""
    lines = trace.strip().splitlines() or ["no trace"]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    return f"{lines[0]} (cause: {causes[-1]})" if causes and causes[-1] not in lines[0] else lines[0]


def verdict(status: Mapping[str, Any] | None) -> Verdict:
    """What a status (GET /connectors/NAME/status; None for 404) asks for.

    A connector or task that somebody paused or stopped is left alone.
    """
    if status is None:
        return Verdict("create", "the connector does not exist")
    parts = [("connector", status["connector"]), *((f"task {task['id']}", task) for task in status["tasks"])]
    failed = [f"{name} FAILED: {reason(part.get('trace', ''))}" for name, part in parts if part["state"] == "FAILED"]
    if failed:
        return Verdict("restart", "; ".join(failed))
    others = [f"{name} is {part['state']}" for name, part in parts if part["state"] != "RUNNING"]
    if others:
        return Verdict("wait", "; ".join(others))
    if not status["tasks"]:
        return Verdict("wait", "no task is assigned yet")
    return Verdict("none", "connector and tasks RUNNING")
