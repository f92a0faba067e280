"""What HubSpot sends of contacts, companies and deals: a creation, then one event for each property."""

import random
from collections.abc import Iterator
from datetime import datetime
from itertools import count
from typing import Any

from contracts.time import to_ms
from tools.traffic.shop.charges import DAY, HOUR
from tools.traffic.shop.model import Event, Step, after, compact, money
from tools.traffic.shop.people import Person, city_as_typed, misspelt, phone_as_typed
from tools.traffic.shop.storefront import MOMENT, Shop

PORTAL, APP = 62515, 1160452
SUBSCRIPTIONS = ("creation", "propertyChange", "deletion", "privacyDeletion")
STAGES = ("appointmentscheduled", "qualifiedtobuy", "contractsent", "closedwon")
COMPANIES = ("Padaria", "Papelaria", "Mercado", "Oficina", "Livraria", "Farmácia")


def hubspot_event(
    rng: random.Random,
    moment: datetime,
    kind: str,
    object_id: int,
    *,
    change: tuple[str, str] | None = None,
    person: Person | None = None,
) -> Step:
    """One element of the array that HubSpot posts; `change` is the property that changed and its value."""
    occurred_ms = to_ms(moment)
    event_number = rng.randrange(10**9)
    body: dict[str, Any] = {
        "eventId": event_number,
        "subscriptionId": 2_000_000 + SUBSCRIPTIONS.index(kind.rpartition(".")[2]),
        "portalId": PORTAL,
        "appId": APP,
        "occurredAt": occurred_ms,
        "subscriptionType": kind,
        "attemptNumber": 0,
        "objectId": object_id,
    }
    if change is not None:
        body |= {"propertyName": change[0], "propertyValue": change[1], "isSensitive": False}
    body |= {"changeSource": "CRM_UI", "sourceId": "userId:9245423"}
    event_id = f"{PORTAL}:{event_number}:{object_id}:{change[0] if change else ''}:{occurred_ms}"
    occurred_at = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    owner = None if person is None else ("contact", person.number)
    return moment, Event("hubspot", kind, event_id, str(object_id), occurred_at, compact(body), owner=owner)


def _created(
    rng: random.Random,
    moment: datetime,
    kind: str,
    object_id: int,
    properties: dict[str, str],
    *,
    person: Person | None = None,
) -> Iterator[Step]:
    """An object and its first properties, all within milliseconds."""
    yield hubspot_event(rng, moment, f"{kind}.creation", object_id, person=person)
    for change in properties.items():
        moment += MOMENT * rng.randint(0, 3)
        yield hubspot_event(rng, moment, f"{kind}.propertyChange", object_id, change=change, person=person)


def contact_life(shop: Shop, person: Person, contact_id: int, created: datetime) -> Iterator[Step]:
    """A contact that is made by hand, corrected later, and seldom erased."""
    rng = shop.rng
    properties = {
        "firstname": misspelt(rng, person.first),
        "lastname": misspelt(rng, person.last),
        "email": misspelt(rng, person.email_at(created)),
        "phone": phone_as_typed(rng, person.phone),
        "city": city_as_typed(rng, person.home),
    }
    yield from _created(rng, created, "contact", contact_id, properties, person=person)

    def changed(moment: datetime, name: str, value: str) -> Step:
        kind = "contact.propertyChange"
        return hubspot_event(rng, moment, kind, contact_id, change=(name, value), person=person)

    moment = created
    if person.moved_at is not None and person.moved_at > created:
        moment = after(rng, person.moved_at, HOUR, 2 * DAY)
        yield changed(moment, "email", person.email_at(moment))
    if rng.random() < 0.3:
        moment = after(rng, moment, HOUR, 2 * DAY)
        yield changed(moment, "lifecyclestage", "customer")
    if rng.random() < 0.01:
        moment = after(rng, moment, HOUR, 3 * DAY)
        yield hubspot_event(rng, moment, "contact.privacyDeletion", contact_id, person=person)


def company_life(shop: Shop, company_id: int, created: datetime) -> Iterator[Step]:
    """A company that buys."""
    name = f"{shop.rng.choice(COMPANIES)} {shop.rng.choice(shop.people).last}"
    properties = {"name": name, "domain": f"empresa{company_id % 1000}.example"}
    yield from _created(shop.rng, created, "company", company_id, properties)


def deal_life(shop: Shop, deal_id: int, created: datetime) -> Iterator[Step]:
    """A deal, which goes from stage to stage."""
    rng = shop.rng
    amount = money(shop.price(rng.choice(list(shop.products)), shop.reporting), shop.reporting)
    properties = {"dealname": f"Proposta {deal_id % 10_000}", "amount": amount, "dealstage": STAGES[0]}
    yield from _created(rng, created, "deal", deal_id, properties)
    moment = created
    for stage in STAGES[1 : rng.randint(1, len(STAGES))]:
        moment = after(rng, moment, HOUR, 2 * DAY)
        yield hubspot_event(rng, moment, "deal.propertyChange", deal_id, change=("dealstage", stage))


def crm_lives(shop: Shop, firsts: dict[int, datetime], first_id: int) -> Iterator[Step]:
    """Contacts of most people from when the shop first saw them, a few companies, and deals with some of them."""
    ids = count(first_id)
    for person in shop.people:
        first = firsts.get(person.number)
        if first is None or shop.rng.random() > 0.6:
            continue
        contact_id = next(ids)
        created = after(shop.rng, first, MOMENT, DAY)
        yield from contact_life(shop, person, contact_id, created)
        if shop.rng.random() < 0.2:
            yield from company_life(shop, next(ids), created)
        if shop.rng.random() < 0.3:
            yield from deal_life(shop, next(ids), after(shop.rng, created, HOUR, DAY))
