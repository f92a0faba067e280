"""The live page: its document, filled with the rankings, and its files, under a strict content security policy."""

import json
from collections.abc import Awaitable, Callable
from html import escape
from pathlib import Path
from string import Template

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse, HTMLResponse
from pydantic.alias_generators import to_camel

from chassis.asgi import PAGE_HEADERS
from contracts.rankings import RANKINGS

FOLDER = Path(__file__).parents[1] / "page"
DOCUMENT = FOLDER / "index.html"
HEADERS = {
    **PAGE_HEADERS,
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def document(root_path: str, *, token: bool) -> str:
    """The page, below `root_path`; `token` says whether the live stream wants one.

    The rankings are in it, as the page needs them: name, field of the competitor, and what people read by language.
    """
    rankings = [
        {
            "name": ranking.name,
            "field": to_camel(ranking.column),
            "perCountry": ranking.per_country,
            "title": dict(ranking.title),
            "competitor": dict(ranking.competitor),
        }
        for ranking in RANKINGS
    ]
    settings = {"root": root_path, "token": token, "rankings": rankings}
    links = [
        f'<a href="{root_path}/api/v1/sales/{ranking.path}">{escape(ranking.title["en"])}</a>' for ranking in RANKINGS
    ]
    return Template(DOCUMENT.read_text("utf-8")).substitute(
        root=root_path,
        settings=json.dumps(settings, ensure_ascii=False).replace("<", "\\u003c"),
        links=", ".join(links),
    )


def _sender(file: Path) -> Callable[[], Awaitable[Response]]:
    async def send() -> Response:
        return FileResponse(file, headers=HEADERS)

    return send


def router(root_path: str, *, token: bool) -> APIRouter:
    """The page at `/`, its files under `/page/`, and nothing else."""
    endpoints = APIRouter(include_in_schema=False, default_response_class=Response)
    for file in sorted(FOLDER.iterdir()):
        if file != DOCUMENT:
            endpoints.add_api_route(f"/page/{file.name}", _sender(file))
    whole = document(root_path, token=token)

    @endpoints.get("/")
    async def page() -> Response:
        return HTMLResponse(whole, headers=HEADERS)

    return endpoints
