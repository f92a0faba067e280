"""docs/runbook.md as a page, so that an alert's link leads to what to do."""

import re
from pathlib import Path

from markdown_it import MarkdownIt

FILE = Path(__file__).parents[2] / "docs" / "runbook.md"
FRAME = Path(__file__).parent / "page" / "runbook.html"
PLACE = "<!-- the runbook -->"


def text() -> str:
    """The runbook; empty where it is not installed."""
    return FILE.read_text("utf-8") if FILE.is_file() else ""


def sections(markdown: str) -> frozenset[str]:
    """The ids of its sections."""
    return frozenset(heading.lower() for heading in re.findall(r"^## (\w+)$", markdown, re.M))


def html(markdown: str, frame: str) -> str:
    """The page: the Markdown at the place that `frame` has for it; links to other files become plain text."""
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = reader.parse(markdown)
    for place, token in enumerate(tokens):
        if token.type == "heading_open":
            token.attrSet("id", tokens[place + 1].content.lower())
        leads = True
        kept = []
        for child in token.children or ():
            if child.type == "link_open":
                leads = str(child.attrGet("href")).startswith(("#", "http"))
            if leads or not child.type.startswith("link_"):
                kept.append(child)
        if token.children is not None:
            token.children = kept
    return frame.replace(PLACE, reader.renderer.render(tokens, reader.options, {}))
