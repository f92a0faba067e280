"""docs/runbook.md as a page, so that an alert links to what to do."""

import itertools
import re
from pathlib import Path

from markdown_it import MarkdownIt

FILE = Path(__file__).parents[2] / "docs" / "runbook.md"
FRAME = Path(__file__).parent / "page" / "runbook.html"
SLOT = "<!-- the runbook -->"
"""The line of the frame that the runbook replaces."""


def text() -> str:
    """The runbook; empty where it is not installed."""
    return FILE.read_text("utf-8") if FILE.is_file() else ""


def sections(markdown: str) -> frozenset[str]:
    """The ids of its sections."""
    return frozenset(heading.lower() for heading in re.findall(r"^## (\w+)$", markdown, re.M))


def html(markdown: str, frame: str) -> str:
    """The page: the Markdown in the frame; links to other files become plain text."""
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = reader.parse(markdown)
    for token, content in itertools.pairwise(tokens):
        if token.type == "heading_open":
            token.attrSet("id", content.content.lower())
    for token in tokens:
        linked = True
        kept = []
        for child in token.children or ():
            if child.type == "link_open":
                linked = str(child.attrGet("href")).startswith(("#", "http"))
            if linked or not child.type.startswith("link_"):
                kept.append(child)
        if token.children is not None:
            token.children = kept
    return frame.replace(SLOT, reader.renderer.render(tokens, reader.options, {}))
