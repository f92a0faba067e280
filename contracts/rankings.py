"""Where each ranking is served in ClickHouse, for everybody who reads it there."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Ranking:
    """`table` is that of the first window length (windows.py has the others); `column` names the competitors.

    The column is that of the table and of `sales`. Every country is ranked apart where `per_country`.
    """

    name: str
    table: str
    column: str
    per_country: bool


RANKINGS = (
    Ranking("city", "top_sales_city", "city", per_country=False),
    Ranking("salesman", "top_salesman_country", "salesman_name", per_country=True),
)
