"""Pure rules of the legacy service: the sales it makes up, and requests that it rejects."""

import random
from collections.abc import Iterator
from itertools import count

from lxml import etree

from chassis.xml import as_utf_8
from contracts.reference import CITIES, COUNTRY, PRODUCTS
from contracts.text import quoted
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


class RejectedError(Exception):
    """A request is rejected with an HTTP status; the message says why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def message_of(body: bytes, coding: str, content_type: str) -> bytes:
    """The SOAP message of a request, in UTF-8 whatever its encoding was.

    Raises:
        RejectedError: there is none, it is packed, its bytes are not of its encoding, or it declares a document type.
    """
    if not body.strip():
        raise RejectedError(400, "the request is empty: send a SOAP message")
    if coding.lower() not in ("", "identity"):
        raise RejectedError(415, f"the request is packed ({quoted(coding)}): send it as it is")
    try:
        message = as_utf_8(body, content_type)
    except ValueError as error:
        raise RejectedError(400, f"the SOAP message cannot be read: {error}") from error
    if has_dtd(message):
        raise RejectedError(400, "a SOAP message must not hold a document type declaration")
    return message


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
