"""The catalogue of topics: loads `contracts/topics/<topic>/` into typed, validated values."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict

from contracts.time import DAY_MS
from contracts.windows import RANKING_TOPICS, WindowLength, topics

TOPICS_FOLDER = Path(__file__).parent / "topics"


class Topic(BaseModel):
    """One topic, as the `topic.yaml` and `value.avsc` of the folder `contract` describe it.

    `schema_role` tells who owns the subject: `writer` schemas are registered from here; a `reader` schema is only what
    Placar reads of records whose writer schema somebody else (Debezium) registers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    contract: str
    description: str
    key: str
    partitions: int
    cleanup: Literal["delete", "compact"]
    retention_days: int | None
    max_message_bytes: int | None = None
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    compatibility: Literal["FULL_TRANSITIVE", "BACKWARD_TRANSITIVE"]
    schema_role: Literal["writer", "reader"]
    owner: str
    avro: Mapping[str, Any]

    @property
    def subject(self) -> str:
        """The registry subject of the value (TopicNameStrategy)."""
        return f"{self.name}-value"

    @property
    def broker_settings(self) -> dict[str, str]:
        """The topic-level broker settings that the catalogue decides."""
        retention = -1 if self.retention_days is None else self.retention_days * DAY_MS
        settings = {"cleanup.policy": self.cleanup, "retention.ms": str(retention)}
        if self.max_message_bytes is not None:
            settings["max.message.bytes"] = str(self.max_message_bytes)
        return settings

    def examples(self, kind: Literal["examples", "invalid"] = "examples") -> dict[str, Any]:
        """The example records by file name; `invalid` holds those that must be rejected."""
        folder = TOPICS_FOLDER / self.contract / kind
        return {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))}


class CatalogueError(Exception):
    """A topic folder is incomplete or says something that the catalogue does not know."""


def _load(folder: Path) -> Topic:
    try:
        described = yaml.safe_load((folder / "topic.yaml").read_text("utf-8"))
        avro = json.loads((folder / "value.avsc").read_text("utf-8"))
        return Topic(name=folder.name, contract=folder.name, avro=avro, **described)
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        raise CatalogueError(f"topic {folder.name}: {error}") from error


@cache
def catalogue(lengths: tuple[WindowLength, ...] = ()) -> Mapping[str, Topic]:
    """Every topic by name: one per folder, and with `lengths` the topics of each ranking's further window lengths.

    Such a topic is its ranking's in everything but the name.

    Raises:
        CatalogueError: a topic folder is incomplete or malformed.
    """
    described = {folder.name: _load(folder) for folder in sorted(TOPICS_FOLDER.iterdir()) if folder.is_dir()}
    return described | {
        name: topic.model_copy(update={"name": name})
        for base, topic in described.items()
        if base.startswith(RANKING_TOPICS)
        for name in topics(base, lengths).values()
    }
