"""The made-up retailer that Placar is shown with: its cities, products, salespeople and plausible sales."""

import random
from dataclasses import dataclass
from decimal import Decimal
from functools import cache

from contracts.reference import CITIES, PRODUCTS

CENT = Decimal("0.01")
# how much is sold in each of the known cities, compared with the others
WEIGHTS = dict(zip(CITIES, (30, 18, 11, 9, 8, 7, 7, 4, 4, 4), strict=True))
# fmt: off
# lowest and highest price of each product in BRL
PRICES = dict(zip(PRODUCTS, (
    (2500, 9500), (650, 3200), (90, 750), (40, 450), (120, 1400),
    (130, 900), (220, 1800), (180, 1500), (1400, 12000), (480, 3600),
), strict=True))
FIRST_NAMES = (
    "Ana", "Beatriz", "Bruna", "Camila", "Carolina", "Daniela", "Eduarda", "Fernanda", "Gabriela", "Helena",
    "Isabela", "Juliana", "Larissa", "Letícia", "Luiza", "Mariana", "Patrícia", "Rafaela", "Sofia", "Vitória",
    "André", "Antônio", "Bruno", "Caio", "Carlos", "Diego", "Eduardo", "Felipe", "Gabriel", "Gustavo", "Henrique",
    "João", "José", "Leonardo", "Lucas", "Luís", "Marcelo", "Mateus", "Otávio", "Paulo", "Pedro", "Rafael", "Rodrigo",
    "Thiago", "Vinícius",
)
LAST_NAMES = (
    "Almeida", "Alves", "Andrade", "Araújo", "Barbosa", "Barros", "Batista", "Cardoso", "Carvalho", "Castro", "Costa",
    "Dias", "Fernandes", "Ferreira", "Freitas", "Gomes", "Gonçalves", "Lima", "Lopes", "Machado", "Martins", "Melo",
    "Mendes", "Monteiro", "Moreira", "Nascimento", "Nunes", "Oliveira", "Pereira", "Pinto", "Ramos", "Ribeiro",
    "Rocha", "Rodrigues", "Santana", "Santos", "Silva", "Soares", "Souza", "Teixeira", "Vieira",
)
# fmt: on
PEOPLE = 60


@dataclass(frozen=True)
class Person:
    """Somebody who sells: name, home city and its region."""

    name: str
    city: str
    region: str


@dataclass(frozen=True)
class Sold:
    """What was sold by whom: `amount` in BRL, exact to the cent."""

    person: Person
    city: str
    product: str
    amount: Decimal


@cache
def people() -> tuple[Person, ...]:
    """The retailer's salespeople: always the same, no two of one name, at least one in every city."""
    rng = random.Random(2026)
    names = [f"{first} {last}" for first in FIRST_NAMES for last in LAST_NAMES]
    cities = [*CITIES, *rng.choices(list(WEIGHTS), list(WEIGHTS.values()), k=PEOPLE - len(CITIES))]
    return tuple(Person(name, city, CITIES[city]) for name, city in zip(rng.sample(names, PEOPLE), cities, strict=True))


def sell(rng: random.Random) -> Sold:
    """One more plausible sale; nine of ten in the salesperson's own city."""
    person = rng.choice(people())
    elsewhere = rng.random() < 0.1
    city = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0] if elsewhere else person.city
    product, (low, high) = rng.choice(list(PRICES.items()))
    # the mean of two draws: prices in the middle are the common ones
    cents = (rng.randint(low * 100, high * 100) + rng.randint(low * 100, high * 100)) // 2
    return Sold(person, city, product, (Decimal(cents) / 100).quantize(CENT))
