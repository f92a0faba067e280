"""The OpenAPI document: every example is what its schema says, every error has one, nothing is left undescribed."""

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from tests.unit.test_api_http import api

RANKINGS = ("top_by_city", "top_salesman", "explain", "windows")


async def document() -> dict[str, Any]:
    """The document as it is served."""
    async with api([]) as (client, _):
        served: dict[str, Any] = (await client.get("/openapi.json")).json()
    return served


def operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every operation."""
    for path in document["paths"].values():
        yield from path.values()


def examples(document: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Every example of a parameter, a header and a body: where it is, its schema, its value."""
    for operation in operations(document):
        name = operation["operationId"]
        for parameter in operation.get("parameters", ()):
            for case, example in parameter.get("examples", {}).items():
                yield f"{name} {parameter['name']} {case}", parameter["schema"], example["value"]
        for status, response in operation["responses"].items():
            for header, described in response.get("headers", {}).items():
                yield f"{name} {status} {header}", described["schema"], described["example"]
            for content in response.get("content", {}).values():
                for case, example in content.get("examples", {}).items():
                    yield f"{name} {status} {case}", content["schema"], example["value"]


async def test_examples_are_what_their_schemas_say() -> None:
    """Every example of the document is valid by its schema, and no answer has a field that the schema does not."""
    served = await document()
    for schema in served["components"]["schemas"].values():
        if schema["type"] == "object":
            schema["additionalProperties"] = False
    seen = 0
    for where, schema, value in examples(served):
        whole = {**schema, "components": served["components"]}
        checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
        errors = list(jsonschema.Draft202012Validator(whole, format_checker=checker).iter_errors(value))
        assert not errors, f"{where}: {errors[0].message}"
        seen += 1
    assert seen > 100


async def test_everything_has_an_example() -> None:
    """Each parameter, each answer with a body and each problem has an example."""
    for operation in operations(await document()):
        for parameter in operation.get("parameters", ()):
            assert parameter["examples"], f"{operation['operationId']} {parameter['name']}"
        for status, response in operation["responses"].items():
            for kind, content in response.get("content", {}).items():
                assert kind == "text/plain" or content["examples"], f"{operation['operationId']} {status} {kind}"


async def test_problems_and_headers_are_described() -> None:
    """Each operation describes its problems; rankings describe 304, ETag and Cache-Control; 429 and 503 Retry-After."""
    served = await document()
    assert {operation["operationId"] for operation in operations(served)} >= {*RANKINGS, "health", "metrics_text"}
    for operation in operations(served):
        responses = operation["responses"]
        for status in ("413", "414", "422", "429", "431", "500", "503"):
            assert "application/problem+json" in responses[status]["content"], operation["operationId"]
            assert "X-Request-Id" in responses[status]["headers"]
            assert ("Retry-After" in responses[status]["headers"]) == (status in ("429", "503"))
        if operation["operationId"] in RANKINGS:
            assert {"ETag", "Cache-Control", "X-Request-Id"} == set(responses["304"]["headers"])
            assert {"ETag", "Cache-Control"} <= set(responses["200"]["headers"])
            assert "content" not in responses["304"]


@pytest.mark.parametrize("windows", ["15m", "1d@America/Sao_Paulo,1h"])
async def test_the_main_length_is_the_default(windows: str) -> None:
    """With other window lengths the document names these, and the first is the default."""
    async with api([], windows=windows) as (client, _):
        served = (await client.get("/openapi.json")).json()
    (length,) = [one for one in served["paths"]["/api/v1/windows"]["get"]["parameters"] if one["name"] == "length"]
    labels = [one.partition("@")[0] for one in windows.split(",")]
    assert length["schema"]["enum"] == labels
    assert length["schema"]["default"] == labels[0] == length["examples"]["newest"]["value"]


async def test_bounds_are_described() -> None:
    """The bounds of numbers and texts are in the schema of their parameters."""
    paths = (await document())["paths"]
    bounds = {
        ("/api/v1/sales/top-by-city", "limit"): {"minimum": 1, "maximum": 10},
        ("/api/v1/windows", "limit"): {"minimum": 1, "maximum": 500},
        ("/api/v1/sales/explain", "name"): {"minLength": 1, "maxLength": 255},
    }
    for (path, name), expected in bounds.items():
        (schema,) = [one["schema"] for one in paths[path]["get"]["parameters"] if one["name"] == name]
        assert expected.items() <= schema.items()


async def test_totals_are_numbers() -> None:
    """Totals are numbers, and the document says that they are exact."""
    total = (await document())["components"]["schemas"]["CityRank"]["properties"]["totalSales"]
    assert total["type"] == "number"
    assert "exact" in total["description"]
