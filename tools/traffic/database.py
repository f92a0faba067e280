"""Sales in the retailer's Postgres."""

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import asyncpg

from contracts.reference import COUNTRY
from tools.traffic import retail
from tools.traffic.retail import Sold
from tools.traffic.transform import Action, spread

SETTING = "POSTGRES_HOST, POSTGRES_PORT, POSTGRES_DB, POSTGRES_USER, POSTGRES_PASSWORD"
# the server is unavailable, starting or stopping, or does not have the schema yet: later it may answer
Unreachable = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)

INSERT = """
insert into sales (salesman_id, salesman, city, country, amount, product, sale_date, created_at)
values ($1, $2, $3, $4, $5, $6, $7, $7) returning id
"""
COMMAND_S = 30.0
UPDATE = "update sales set city = $2, amount = $3, product = $4 where id = $1"


def wall(moment: datetime) -> datetime:
    """The UTC wall clock, as the columns without time zone hold it."""
    return moment.astimezone(UTC).replace(tzinfo=None)


async def staff(connection: asyncpg.Connection) -> dict[str, int]:
    """Id by name of every salesperson, hiring those of the retailer who are missing."""
    async with connection.transaction():
        await connection.execute("lock table salesman in share row exclusive mode")
        known = {row["name"] for row in await connection.fetch("select name from salesman")}
        await connection.executemany(
            "insert into salesman (name, city, region) values ($1, $2, $3)",
            [(p.name, p.city, p.region) for p in retail.people() if p.name not in known],
        )
        everybody = await connection.fetch("select id, name from salesman order by id desc")
        return {row["name"]: row["id"] for row in everybody}


async def insert(connection: asyncpg.Connection, ids: Mapping[str, int], sold: Sold, moment: datetime) -> int:
    """Write one sale and return its id."""
    name = sold.person.name
    row = (ids[name], name, sold.city, COUNTRY, sold.amount, sold.product, wall(moment))
    sale_id: int = await connection.fetchval(INSERT, *row)
    return sale_id


async def seed(
    connection: asyncpg.Connection, rng: random.Random, *, number: int, back: timedelta, only_empty: bool
) -> int:
    """Insert `number` sales of the last `back`, in one transaction; none where `only_empty` and sales are there."""
    ids = await staff(connection)
    async with connection.transaction():
        await connection.execute("lock table sales in share row exclusive mode")
        if only_empty and await connection.fetchval("select exists (select from sales)"):
            return 0
        for moment in spread(rng, number, datetime.now(UTC), back):
            await insert(connection, ids, retail.sell(rng), moment)
    return number


async def apply(
    connection: asyncpg.Connection, ids: Mapping[str, int], sales: dict[int, int], due: Sequence[Action]
) -> None:
    """Carry out actions in one transaction; `ids` are those of the staff, `sales` maps numbers of this run to ids."""
    fresh: dict[int, int] = {}
    async with connection.transaction():
        for action in due:
            known = fresh.get(action.number) or sales.get(action.number)
            if action.kind == "insert" and action.sold is not None:
                fresh[action.number] = await insert(connection, ids, action.sold, datetime.now(UTC))
            elif action.sold is not None:
                await connection.execute(UPDATE, known, action.sold.city, action.sold.amount, action.sold.product)
            else:
                await connection.execute("delete from sales where id = $1", known)
    sales.update(fresh)
