"""The pages that people begin with name tasks, files and folders that are there."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "CONTRIBUTING.md")
TASKS = set(yaml.safe_load((ROOT / "Taskfile.yml").read_text("utf-8"))["tasks"])
FOLDERS = ("chassis", "contracts", "deploy", "docs", "flink", "services", "streams", "tests", "tools")


def text(page: str) -> str:
    """A page."""
    return (ROOT / page).read_text("utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_every_task_exists(page: str) -> None:
    """A command that is to be typed is one of the Taskfile's."""
    named = set(re.findall(r"(?:\./taskw|`task) ([a-z](?:[\w:-]*\w)?)", text(page)))
    known = TASKS | {f"dev:{unit}" for unit in ("api", "<unit>")}
    assert len(named) > 10
    assert {task for task in named if task not in known and not task.startswith("dev:")} == set()


@pytest.mark.parametrize("page", PAGES)
def test_every_link_and_path_leads_somewhere(page: str) -> None:
    """A link to a file, and a path in a folder of ours, is there; one with a `<name>` in it is left out."""
    links = {link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text(page)) if "://" not in link}
    paths = set(re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]+)`", text(page)))
    wanted = {path for path in links | paths if path}
    assert len(wanted) > 5
    assert {path for path in wanted if not (ROOT / path).exists()} == set()
