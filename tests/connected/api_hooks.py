"""For schemathesis: which input of the document is rejected rightly, as a schema of single parameters cannot say.

A cursor is text that an earlier answer gave, and `country` goes with ranking=salesman only. Both have tests elsewhere.
"""

from typing import Any

import schemathesis

WITH_RANKING = ("/api/v1/windows", "/api/v1/sales/explain")


@schemathesis.hook
def filter_case(context: schemathesis.HookContext, case: schemathesis.Case[Any]) -> bool:
    """Whether the request is made."""
    query = case.query or {}
    of_cities = case.operation.path in WITH_RANKING and query.get("ranking", "city") == "city"
    return "cursor" not in query and not (of_cities and "country" in query)
