"""`placar trace`."""

from typing import Annotated

import typer

from contracts.sale import normalized
from tools.options import Json, Source


def _sale_id(text: str) -> str:
    if not normalized(text):
        raise typer.BadParameter("is empty")
    return normalized(text)


def trace(
    source: Annotated[Source, typer.Argument(help="Where the sale comes from.")],
    sale_id: Annotated[str, typer.Argument(parser=_sale_id, help="Its id there; of postgres the row's id.")],
    as_json: Json = False,
) -> int:
    """One sale at every step, from its raw record to its rank.

    Ends with 0, or with 1 where no step knows the sale.
    """
    from tools.trace.app import run

    return run(source, sale_id, as_json=as_json)
