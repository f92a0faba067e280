"""Serves the list endpoints of a simulated shop on this machine, so that a reconciliation has something to ask."""

import socket
from collections.abc import Callable
from datetime import datetime
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from chassis.errors import NotDoneError
from chassis.settings import load
from tools.traffic.shop import lists
from tools.traffic.shop.history import History
from tools.traffic.shop.rounds import round_history
from tools.traffic.shop.settings import WebhooksSettings

HOST = "127.0.0.1"


def application(simulated: History) -> Starlette:
    """The list endpoints over what the shop holds at the end of a history."""
    orders, charges = lists.orders(simulated.events), lists.charges(simulated.events)
    contacts = lists.contacts(simulated.events)

    def route(path: str, page: Callable[[Request], tuple[Any, str | None]]) -> Route:
        async def answer(request: Request) -> Response:
            try:
                content, link = page(request)
            except ValueError as error:
                return JSONResponse({"error": {"message": str(error)}}, 400)
            return JSONResponse(content, headers={} if link is None else {"Link": link})

        return Route(path, answer)

    def url(request: Request) -> str:
        return str(request.url.replace(query=""))

    return Starlette(
        routes=[
            route("/admin/api/{version}/orders.json", lambda r: lists.orders_page(orders, r.query_params, url(r))),
            route("/v1/charges", lambda r: (lists.charges_page(charges, r.query_params), None)),
            route("/crm/v3/objects/contacts", lambda r: (lists.contacts_page(contacts, r.query_params, url(r)), None)),
        ]
    )


def serve(seed: int, start: datetime, orders: int, port: int) -> int:
    """Serve a round's shop until Ctrl-C.

    Raises:
        NotDoneError: the port is taken.
    """
    try:
        listening = socket.create_server((HOST, port))
    except OSError as error:
        raise NotDoneError(f"cannot listen on {HOST}:{port}: {error.strerror}; choose another --port") from error
    with listening:
        address = f"http://{HOST}:{listening.getsockname()[1]}"
        app = application(round_history(seed, start, orders, load(WebhooksSettings).reporting))
        for path in ("/admin/api/2026-01/orders.json", "/v1/charges", "/crm/v3/objects/contacts"):
            print(f"{address}{path}", flush=True)
        uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off")).run(sockets=[listening])
    return 0
