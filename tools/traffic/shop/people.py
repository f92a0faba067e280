"""The shop's customers, and how differently each system knows them."""

import random
import unicodedata
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from contracts.reference import CITIES
from tools.traffic.retail import FIRST_NAMES, LAST_NAMES, WEIGHTS

NAMESAKE, SHARED_PHONE, MOVED, MISSPELT, SHOUTED = 0.08, 0.1, 0.12, 0.07, 0.15
DOMAINS = ("example.com", "example.net", "example.org", "mail.example", "correio.example")
STREETS = ("Rua das Flores", "Avenida Brasil", "Rua XV de Novembro", "Travessa do Comércio", "Alameda Santos")


class Home(NamedTuple):
    """A city with what addresses there have: state, country, area code and the start of its postal codes."""

    city: str
    state: str
    country: str
    area: str
    postcode: str


# fmt: off
HOMES = tuple(Home(*row) for row in (
    ("São Paulo", "SP", "BR", "11", "01"), ("Rio de Janeiro", "RJ", "BR", "21", "20"),
    ("Belo Horizonte", "MG", "BR", "31", "30"), ("Curitiba", "PR", "BR", "41", "80"),
    ("Porto Alegre", "RS", "BR", "51", "90"), ("Salvador", "BA", "BR", "71", "40"),
    ("Brasília", "DF", "BR", "61", "70"), ("Florianópolis", "SC", "BR", "48", "88"),
    ("Recife", "PE", "BR", "81", "50"), ("Fortaleza", "CE", "BR", "85", "60"),
    ("Campinas", "SP", "BR", "19", "13"), ("Niterói", "RJ", "BR", "21", "24"),
    ("Lisboa", "11", "PT", "21", "11"), ("Buenos Aires", "C", "AR", "11", "10"),
))
# fmt: on
COUNTRIES = {"BR": ("Brazil", "+55"), "PT": ("Portugal", "+351"), "AR": ("Argentina", "+54")}
_WEIGHTS = [WEIGHTS.get(home.city, 2) for home in HOMES]


@dataclass(frozen=True)
class Person:
    """A customer: one human being, whatever the systems make of it. `number` tells people apart.

    From `moved_at` on the e-mail is `new_email`, where there is one.
    """

    number: int
    first: str
    last: str
    email: str
    phone: str
    home: Home
    street: str
    postcode: str
    new_email: str | None = None
    moved_at: datetime | None = None

    def email_at(self, moment: datetime) -> str:
        """The e-mail in use then."""
        moved = self.new_email is not None and self.moved_at is not None and moment >= self.moved_at
        return self.new_email if moved and self.new_email else self.email


def _ascii(name: str) -> str:
    return unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()


def people(rng: random.Random, number: int, start: datetime, span: timedelta) -> list[Person]:
    """So many people; among them namesakes, families with one phone, and some who change their e-mail in the span."""
    found: list[Person] = []
    for index in range(number):
        first, last = rng.choice(FIRST_NAMES), rng.choice(LAST_NAMES)
        if found and rng.random() < NAMESAKE:
            other = rng.choice(found)
            first, last = other.first, other.last
        home = rng.choices(HOMES, _WEIGHTS)[0]
        phone = f"{COUNTRIES[home.country][1]}{home.area}9{rng.randrange(10**8):08}"
        if found and rng.random() < SHARED_PHONE:
            relative = rng.choice(found)
            home, phone = relative.home, relative.phone
        box = f"{_ascii(first)}.{_ascii(last)}{index}".lower()
        person = Person(
            number=index,
            first=first,
            last=last,
            email=f"{box}@{rng.choice(DOMAINS)}",
            phone=phone,
            home=home,
            street=f"{rng.choice(STREETS)}, {rng.randint(1, 2000)}",
            postcode=f"{home.postcode}{rng.randrange(1000):03}-{rng.randrange(1000):03}",
        )
        if rng.random() < MOVED:
            person = replace(person, new_email=f"{box}@novo.example", moved_at=start + span * rng.random())
        found.append(person)
    return found


def misspelt(rng: random.Random, text: str) -> str:
    """Seldom with two neighbouring letters swapped, as people type."""
    if rng.random() >= MISSPELT or len(text) < 4:
        return text
    at = rng.randrange(1, len(text) - 2)
    return f"{text[:at]}{text[at + 1]}{text[at]}{text[at + 2 :]}"


def phone_as_typed(rng: random.Random, phone: str) -> str:
    """A phone in one of the notations that people use; only the first is E.164."""
    code = next(code for _, code in COUNTRIES.values() if phone.startswith(code))
    local = phone[len(code) :]
    area, number = local[:2], local[2:]
    return rng.choice((phone, f"({area}) {number[:5]}-{number[5:]}", local, f"{code} {area} {number[:5]} {number[5:]}"))


def city_as_typed(rng: random.Random, home: Home) -> str:
    """The city as a form holds it: a known one sometimes without accents, in capitals."""
    known = home.city in CITIES
    return _ascii(home.city).upper() if known and rng.random() < SHOUTED else home.city
