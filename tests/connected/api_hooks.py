"""For schemathesis: which input of the document is rightly rejected, as a schema of single parameters cannot say.

A cursor is text that an earlier answer gave, and `country` goes with rankings per country only. Both have tests
elsewhere.
"""

from typing import Any

import schemathesis

from contracts.rankings import RANKINGS

WITH_RANKING = ("/api/v1/windows", "/api/v1/sales/explain")


@schemathesis.hook
def filter_case(context: schemathesis.HookContext, case: schemathesis.Case[Any]) -> bool:
    """Whether the request is made."""
    query = case.query or {}
    per_country = [ranking.name for ranking in RANKINGS if ranking.per_country]
    everywhere = case.operation.path in WITH_RANKING and query.get("ranking") not in per_country
    return "cursor" not in query and not (everywhere and "country" in query)
