"""Pure rules of the legacy service: the sales it makes up, and requests that it rejects."""

import random
from collections.abc import Iterator
from itertools import count

from lxml import etree

from contracts.reference import CITIES, COUNTRY, PRODUCTS
from services.legacy_soap.book import BookedSale

SPREAD_MS = 5_000  # a made-up sale happened at most this long before it is recorded
PRICE_CENTS = (4_000, 1_200_000)
CLERKS = ("Aparecida Fonseca", "Benedito Prado", "Cleusa Moraes", "Dirceu Sampaio", "Elza Pacheco", "Fausto Queiroz")


def made_up(rng: random.Random, run: str) -> Iterator[BookedSale]:
    """Endless plausible sales without a date, with ids that begin with `run`: one prefix per start of the process."""
    cities = list(CITIES)
    for number in count(1):
        cents = rng.randint(*PRICE_CENTS)
        yield BookedSale(
            f"{run}-{number}",
            rng.choice(CLERKS),
            rng.choice(cities),
            COUNTRY,
            f"{cents // 100}.{cents % 100:02d}",
            rng.choice(PRODUCTS),
            None,
        )


def has_dtd(body: bytes) -> bool:
    """Whether an XML document declares a document type, which SOAP 1.1 forbids (section 3) and entity bombs need.

    A document that is not well-formed has none: the SOAP layer answers it with its own fault.
    """
    parser = etree.XMLParser(resolve_entities=False, load_dtd=False, no_network=True, huge_tree=False)
    try:
        document = etree.fromstring(body, parser)
    except (etree.XMLSyntaxError, ValueError):
        return b"<!DOCTYPE" in body
    return document.getroottree().docinfo.internalDTD is not None
