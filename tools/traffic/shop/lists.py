"""What the providers list of a simulated shop at the end of a history, page by page, in their form. Pure."""

import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from contracts.time import iso_ms, to_ms
from tools.traffic.shop.model import Event

ORDER_TOPICS = frozenset({"orders/create", "orders/paid", "orders/updated", "orders/cancelled"})
DEFAULT, SHOPIFY_MAX, STRIPE_MAX, HUBSPOT_MAX = 50, 250, 100, 100


def orders(events: Iterable[Event]) -> dict[int, dict[str, Any]]:
    """The shop's orders by id, ascending; deleted ones are gone."""
    found: dict[int, dict[str, Any]] = {}
    for event in events:
        if event.event_type in ORDER_TOPICS:
            found[int(event.object_id)] = json.loads(event.body)
        elif event.event_type == "orders/delete":
            found.pop(int(event.object_id), None)
    return dict(sorted(found.items()))


def charges(events: Iterable[Event]) -> dict[str, dict[str, Any]]:
    """Stripe's charges by id, the newest first."""
    found: dict[str, dict[str, Any]] = {}
    for event in events:
        if event.provider == "stripe" and (thing := json.loads(event.body)["data"]["object"])["object"] == "charge":
            found[thing["id"]] = thing
    return dict(sorted(found.items(), key=lambda item: (-item[1]["created"], item[0])))


def contacts(events: Iterable[Event]) -> dict[int, dict[str, Any]]:
    """HubSpot's contacts by id, ascending, each with its properties as they are now; erased ones are gone."""
    found: dict[int, dict[str, Any]] = {}
    for event in events:
        number = int(event.object_id) if event.event_type.startswith("contact.") else 0
        at = iso_ms(to_ms(event.occurred_at))
        if event.event_type == "contact.creation":
            named = {"id": event.object_id, "properties": {}, "createdAt": at, "updatedAt": at, "archived": False}
            found[number] = named
        elif event.event_type == "contact.propertyChange":
            body = json.loads(event.body)
            found[number]["properties"][body["propertyName"]] = body["propertyValue"]
            found[number]["updatedAt"] = at
        elif event.event_type == "contact.privacyDeletion":
            found.pop(number, None)
    return dict(sorted(found.items()))


def _size(query: Mapping[str, str], most: int, default: int) -> int:
    given = query.get("limit", str(default))
    if not given.isascii() or not given.isdigit() or not 1 <= int(given) <= most:
        raise ValueError(f"limit is {given[:20]!r}, not 1 to {most}")
    return int(given)


def orders_page(held: Mapping[int, dict[str, Any]], query: Mapping[str, str], url: str) -> tuple[Any, str | None]:
    """Shopify's page of orders after `since_id`, and its Link header where there are more.

    Raises:
        ValueError: a parameter is none that Shopify takes.
    """
    limit, since = _size(query, SHOPIFY_MAX, DEFAULT), int(query.get("page_info") or query.get("since_id") or 0)
    after = [order_id for order_id in held if order_id > since]
    page = after[:limit]
    link = f'<{url}?{urlencode({"limit": limit, "page_info": page[-1]})}>; rel="next"' if len(after) > limit else None
    return {"orders": [held[order_id] for order_id in page]}, link


def charges_page(held: Mapping[str, dict[str, Any]], query: Mapping[str, str]) -> Any:
    """Stripe's page of charges that follow `starting_after`.

    Raises:
        ValueError: the limit is none that Stripe takes, or there is no such charge.
    """
    limit, start = _size(query, STRIPE_MAX, 10), query.get("starting_after")
    if start is not None and start not in held:
        raise ValueError(f"No such charge: {start[:60]!r}")
    ids = list(held)
    after = ids if start is None else ids[ids.index(start) + 1 :]
    page = [held[charge_id] for charge_id in after[:limit]]
    return {"object": "list", "url": "/v1/charges", "has_more": len(after) > limit, "data": page}


def contacts_page(held: Mapping[int, dict[str, Any]], query: Mapping[str, str], url: str) -> Any:
    """HubSpot's page of contacts from `after` on.

    Raises:
        ValueError: a parameter is none that HubSpot takes.
    """
    limit, first = _size(query, HUBSPOT_MAX, 10), int(query.get("after") or 0)
    after = [contact_id for contact_id in held if contact_id >= first]
    page: dict[str, Any] = {"results": [held[contact_id] for contact_id in after[:limit]]}
    if len(after) > limit:
        cursor = {"limit": str(limit), "after": str(after[limit])}
        page["paging"] = {"next": {"after": cursor["after"], "link": f"{url}?{urlencode(cursor)}"}}
    return page
