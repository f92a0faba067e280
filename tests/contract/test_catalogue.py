"""The catalogue is complete and consistent."""

import json
import re
from pathlib import Path

import fastavro
import pytest

from contracts import catalogue as catalogue_module
from contracts.catalogue import CatalogueError, Topic, catalogue
from contracts.json_avro import typed
from contracts.reasons import REASONS, remedy
from contracts.webhooks import OTHER, PRIVACY
from contracts.webhooks import TOPICS as WEBHOOKS
from contracts.windows import window_lengths
from deploy.native.processes import UNITS
from tests import invalid

TOOLS = {"dead_letters", "ledger", "topics", "traffic"}
OTHER_PROCESSES = {"connect", "ranking"}
ROOT = Path(__file__).parents[2]
TOPICS = list(catalogue().values())


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_topic_is_described(topic: Topic) -> None:
    """Each topic has known producers and consumers, a parsable schema with a documented record, and examples."""
    unknown = {*topic.producers, *topic.consumers} - {*UNITS, *TOOLS, *OTHER_PROCESSES}
    assert not unknown, (
        f"{', '.join(unknown)} of {topic.name} is no unit of deploy/native/processes.yaml, and no command"
    )
    assert topic.producers
    assert topic.consumers
    assert fastavro.parse_schema(dict(topic.avro))
    assert topic.avro["type"] == "record"
    assert topic.avro["doc"]
    assert topic.examples()


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_examples_are_of_the_schema(topic: Topic) -> None:
    """Each example has every field of the schema, no other, and is valid Avro."""
    parsed = fastavro.parse_schema(dict(topic.avro))
    fields = {field["name"] for field in topic.avro["fields"]}
    for name, example in topic.examples().items():
        assert set(example) == fields, name
        assert fastavro.validate(typed(topic.avro, example), parsed, strict=True, raise_errors=True), name


def test_rankings_agree() -> None:
    """Both ranking topics carry the same schema, so that one consumer reads both."""
    topics = catalogue()
    assert topics["rankings.city"].avro == topics["rankings.salesman"].avro


def test_webhooks_agree() -> None:
    """Every kind of event has a topic, and all of them carry the same schema, so that one producer fills them."""
    topics = {OTHER, PRIVACY, *(topic for kinds in WEBHOOKS.values() for topic in kinds.values())}
    assert topics == {topic.name for topic in TOPICS if topic.avro["name"] == "WebhookEvent"}
    assert all(catalogue()[name].avro == catalogue()[OTHER].avro for name in topics)


def test_further_window_lengths_derive_their_topics() -> None:
    """Each ranking has a topic for each further length, its own in everything but the name, examples included."""
    lengths = window_lengths("1h,1d@America/Sao_Paulo,15m")
    further = {name: topic for name, topic in catalogue(lengths).items() if name not in catalogue()}
    rankings = [name for name in catalogue() if name.startswith("rankings.")]
    assert {"rankings.city", "rankings.salesman"} <= set(rankings)
    assert set(further) == {f"{name}.{label}" for name in rankings for label in ("1d", "15m")}
    for name, topic in further.items():
        base = catalogue()[name.rpartition(".")[0]]
        assert (topic.name, topic.subject) == (name, f"{name}-value")
        assert topic == base.model_copy(update={"name": name})
        assert topic.examples() == base.examples() != {}
    assert catalogue(lengths[:1]) == catalogue()


def test_invalid_examples_have_known_reasons() -> None:
    """Each invalid example names a reason code that exists, and at least sixty kinds of bad input are named."""
    cases = [(topic.name, name, case) for topic in TOPICS for name, case in topic.examples("invalid").items()]
    assert {case["reason"] for _, _, case in cases} <= set(REASONS)
    kinds = {(topic, json.dumps({**case, "reason": ""}, sort_keys=True)) for topic, _, case in cases}
    assert len(kinds) == len(cases), "two cases of a topic are the same"
    assert len(kinds) >= 60
    assert all(sum(kind in case for kind in (*invalid.RECORD_KINDS, *invalid.SENT_KINDS)) == 1 for _, _, case in cases)


def test_every_reason_has_an_example() -> None:
    """Each reason code is what some kind of bad input gets; a file that cannot be read is no input of ours."""
    used = {case["reason"] for topic in TOPICS for case in topic.examples("invalid").values()}
    assert used == set(REASONS) - {"file_unreadable"}


def test_reasons_are_documented() -> None:
    """docs/dead-letters.md has every reason code with its meaning and remedy, and no other."""
    row = re.compile(r"^\| `(\w+)` \| (.+) \| (.+) \|$", re.MULTILINE)
    documented = row.findall((ROOT / "docs" / "dead-letters.md").read_text("utf-8"))
    assert [(code, (meaning, cure)) for code, meaning, cure in documented] == list(REASONS.items())


def test_reasons_have_meaning_and_remedy() -> None:
    """Each reason code says in words what is wrong and what to do."""
    for code, (meaning, _) in REASONS.items():
        assert meaning
        assert remedy(code)


@pytest.mark.parametrize(
    "described", ["description: a: b", "description: only this", "- a list"], ids=["yaml", "incomplete", "shape"]
)
def test_wrong_topic_is_named(described: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong topic folder is rejected with the topic's name, not with a bare parser error."""
    folder = tmp_path / "sales.broken"
    folder.mkdir()
    (folder / "topic.yaml").write_text(described, "utf-8")
    (folder / "value.avsc").write_text(json.dumps({"type": "record", "name": "X", "fields": []}), "utf-8")
    monkeypatch.setattr(catalogue_module, "TOPICS_FOLDER", tmp_path)
    with pytest.raises(CatalogueError, match=r"sales\.broken"):
        catalogue.__wrapped__()
