"""The AsyncAPI document of the live stream: `asyncapi.yaml`, filled from the table of rankings."""

import json
from functools import cache
from pathlib import Path
from string import Template

from services.api.models import ENTRIES


@cache
def document() -> str:
    """The document as YAML."""
    names = list(ENTRIES)
    entries = [
        {**entry.model_json_schema(mode="serialization"), "additionalProperties": False} for entry in ENTRIES.values()
    ]
    values = {"names": names, "count": len(names), "list": ",".join(names), "entries": entries}
    text = Path(__file__).with_name("asyncapi.yaml").read_text("utf-8")
    return Template(text).safe_substitute({name: json.dumps(value) for name, value in values.items()})
