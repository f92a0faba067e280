"""The list endpoints of the simulated shop answer as the providers' do."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tools.traffic.shop.model import Event
from tools.traffic.shop.rounds import round_history
from tools.traffic.shop.serve import application

SIMULATED = round_history(11, datetime(2026, 2, 19, 10, 0, tzinfo=UTC))


@pytest.fixture
async def client() -> Any:
    """A client of the endpoints."""
    transport = httpx.ASGITransport(application(SIMULATED))
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as opened:
        yield opened


def of(*kinds: str) -> Iterator[Event]:
    """The events of these types."""
    return (event for event in SIMULATED.events if event.event_type in kinds)


async def test_shopify_pages_by_its_link_header(client: httpx.AsyncClient) -> None:
    """Following rel="next" gives every order that is not deleted once, in order of ids, in its newest state."""
    url: str | None = "/admin/api/2026-01/orders.json?limit=30&since_id=0"
    found: list[dict[str, Any]] = []
    while url is not None:
        answer = await client.get(url)
        found += answer.json()["orders"]
        following = re.fullmatch(r'<(.+)>; rel="next"', answer.headers.get("Link", ""))
        url = following[1] if following else None
    ids = [order["id"] for order in found]
    deleted = {int(event.object_id) for event in of("orders/delete")}
    assert ids == sorted({int(event.object_id) for event in of("orders/create")} - deleted)
    totals = {str(order["id"]): order["current_total_price"] for order in found}
    for (source, sale_id), sale in SIMULATED.truth.sales.items():
        assert source != "shopify" or totals[sale_id] == str(sale.amount)
    later = await client.get(f"/admin/api/2026-01/orders.json?since_id={ids[-2]}")
    assert [order["id"] for order in later.json()["orders"]] == ids[-1:]


async def test_stripe_pages_by_the_last_charge(client: httpx.AsyncClient) -> None:
    """`starting_after` gives every charge once, the newest first, until `has_more` is false."""
    found: list[dict[str, Any]] = []
    more = True
    while more:
        query = {"limit": 40, **({"starting_after": found[-1]["id"]} if found else {})}
        page = (await client.get("/v1/charges", params=query)).json()
        assert page["object"] == "list"
        found, more = found + page["data"], page["has_more"]
    ids = [charge["id"] for charge in found]
    assert len(ids) == len(set(ids))
    charges = {e.object_id for e in SIMULATED.events if e.provider == "stripe" and e.object_id.startswith("ch_")}
    assert set(ids) == charges
    assert [charge["created"] for charge in found] == sorted((c["created"] for c in found), reverse=True)


async def test_hubspot_pages_by_its_cursor(client: httpx.AsyncClient) -> None:
    """`paging.next.after` gives every contact once, with its properties; one that was erased is gone."""
    after: str | None = "0"
    found: list[dict[str, Any]] = []
    while after is not None:
        page = (await client.get("/crm/v3/objects/contacts", params={"limit": 10, "after": after})).json()
        found += page["results"]
        after = page["paging"]["next"]["after"] if "paging" in page else None
    erased = {event.object_id for event in of("contact.privacyDeletion")}
    assert [contact["id"] for contact in found] == sorted({e.object_id for e in of("contact.creation")} - erased)
    assert all(contact["properties"]["email"] for contact in found)


@pytest.mark.parametrize(
    "path",
    [
        "/admin/api/2026-01/orders.json?limit=251",
        "/admin/api/2026-01/orders.json?since_id=x",
        "/v1/charges?limit=0",
        "/v1/charges?starting_after=ch_nobody",
        "/crm/v3/objects/contacts?limit=many",
    ],
)
async def test_a_wrong_parameter_is_an_error(client: httpx.AsyncClient, path: str) -> None:
    """It is answered with 400 and what is wrong."""
    answer = await client.get(path)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]
