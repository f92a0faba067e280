"""For schemathesis: what a schema of single parameters cannot say, so that input that fits it is refused rightly.

A cursor is text that an earlier answer gave, and `country` goes with ranking=salesman only. A failure is left out only
where the answer is a 422 that names nothing but these.
"""

import schemathesis


@schemathesis.hook
def filter_failure(
    context: schemathesis.HookContext,
    failure: schemathesis.core.failures.Failure,
    case: schemathesis.Case,
    response: schemathesis.Response,
) -> bool:
    """Whether the failure counts."""
    if failure.code != "unsupported_data" or response.status_code != 422:
        return True
    of_several = {"cursor"} | ({"country"} if (case.query or {}).get("ranking", "city") == "city" else set())
    return not {error["field"] for error in response.json()["errors"]} <= of_several
