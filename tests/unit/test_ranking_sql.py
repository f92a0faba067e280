"""The table of rankings, the statements made from it, and the job's configuration."""

import io
import re
from dataclasses import replace
from decimal import Decimal

import fastavro
import pytest

from contracts.catalogue import catalogue
from contracts.rankings import RANKINGS, RankingDefinition, RankingWindow, ranking_windows
from contracts.windows import window_length
from flink.ranking import sql
from flink.ranking.configuration import ConfigurationError, read
from flink.ranking.contract import Contract, ContractError, encoder, money, ranking_set, registered, released
from flink.ranking.windows.top_n import Entry, Window
from services.flink_watcher import transform

HOUR = window_length("1h")
DAY = window_length("1d@America/Sao_Paulo")
COUNTRY = RankingDefinition(
    "country",
    column="country",
    per_country=False,
    topic="rankings.country",
    table="top_countries",
    path="top-countries",
    title={},
    competitor={},
)


def test_each_ranking_publishes_to_a_topic_of_the_catalogue() -> None:
    """Every ranking over the default window has a topic, fed by the job, with the one schema of ranking sets."""
    for window in ranking_windows([HOUR]):
        topic = catalogue()[window.topic]
        assert "ranking" in topic.producers
        assert topic.avro == catalogue()["rankings.city"].avro


def test_ranked_columns_are_fields_of_a_sale() -> None:
    """What is ranked is a field that every sale has."""
    fields = {field["name"] for field in catalogue()["sales.unified"].avro["fields"]}
    assert {ranking.column for ranking in RANKINGS} <= fields


def test_the_source_table_has_no_field_that_a_sale_has_not() -> None:
    """Every column of the source table is a field of the contract."""
    fields = {field["name"] for field in catalogue()["sales.unified"].avro["fields"]}
    columns = re.findall(
        r"(\w+) (?:STRING|BIGINT|BOOLEAN|DECIMAL)",
        sql.sales_table(read({}), ranking_windows([HOUR], [*RANKINGS, COUNTRY])),
    )
    assert {"city", "salesman_name", "product", "country"} <= set(columns)
    assert set(columns) <= fields
    assert len(columns) == len(set(columns))


def test_a_further_window_length_goes_to_a_topic_of_its_own() -> None:
    """The first length keeps the ranking's topic; records of another one cannot be mistaken for it."""
    names = [(window.name, window.topic) for window in ranking_windows([HOUR, DAY], [COUNTRY])]
    assert names == [("country/1h", "rankings.country"), ("country/1d", "rankings.country.1d")]


def test_a_further_ranking_is_one_more_row_of_the_statement() -> None:
    """A new entry of the table appears in the parts, and needs no other change."""
    windows = ranking_windows([HOUR], [*RANKINGS, COUNTRY])
    parts = "CAST('country/1h' AS STRING), CAST('' AS STRING), CAST(event_time / 3600000 AS STRING), country"
    assert f"CONCAT_WS('|', {parts})" in sql.parts_view(windows)


def test_a_local_day_is_computed_on_the_local_clock() -> None:
    """The index of a day in a time zone comes from that zone's clock."""
    assert "'America/Sao_Paulo'" in sql.window_index(DAY)
    assert sql.window_index(HOUR) == "event_time / 3600000"


@pytest.mark.parametrize(("per_country", "key"), [(False, "2026-02-19T10:00:00Z"), (True, "2026-02-19T10:00:00Z/BR")])
def test_record_keys(per_country: bool, key: str) -> None:
    """The key is the window's start, and the country where each has its own ranking."""
    window = RankingWindow(replace(COUNTRY, per_country=per_country), HOUR, "t")
    assert window.record_key("BR", 1_771_495_200_000) == key


def test_the_configuration_has_the_documented_defaults() -> None:
    """Without any variable the job ranks hours, and keeps state for 35 days."""
    configuration = read({})
    assert configuration.kafka == "127.0.0.1:9092"
    assert configuration.registry_url == "http://127.0.0.1:8085/apis/ccompat/v7"
    assert configuration.windows == (HOUR,)
    assert (configuration.state_ttl_days, configuration.idle_ms) == (35, 60_000)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KAFKA_PORT", "70000"),
        ("KAFKA_HOST", " "),
        ("RANKING_WINDOWS", "1h,1h"),
        ("RANKING_WINDOWS", "soon"),
        ("RANKING_STATE_TTL_DAYS", "forever"),
        ("RANKING_IDLE_S", "0"),
        ("RANKING_STATE_SINCE_MS", "-1"),
    ],
)
def test_a_wrong_value_is_rejected_by_name(name: str, value: str) -> None:
    """The message names the variable and what it was set to."""
    with pytest.raises(ConfigurationError, match=name):
        read({name: value})


def test_a_window_is_shorter_than_the_state_lives() -> None:
    """Otherwise its totals would expire while sales still arrive for it."""
    read({"RANKING_WINDOWS": "1h,1d", "RANKING_STATE_TTL_DAYS": "2"})
    with pytest.raises(ConfigurationError, match=r"RANKING_WINDOWS '1h,1d': .* 1 days of RANKING_STATE_TTL_DAYS"):
        read({"RANKING_WINDOWS": "1h,1d", "RANKING_STATE_TTL_DAYS": "1"})


def test_a_shadow_has_a_name_and_a_group_of_its_own() -> None:
    """Its commits are not taken for those of the job that publishes."""
    job, shadow = read({"RANKING_SHADOW": ""}), read({"RANKING_SHADOW": "ranking-rebuild-5"})
    assert (job.job_name, job.group) == (transform.JOB_NAME, "ranking")
    assert (shadow.job_name, shadow.group) == (transform.SHADOW_NAME, "ranking-rebuild-5")
    assert "'properties.group.id' = 'ranking-rebuild-5'" in sql.sales_table(shadow, ranking_windows([HOUR]))


def test_a_set_is_written_as_the_contract_reads_it() -> None:
    """The bytes are the Confluent header and a record that the contract's schema decodes, exact to the cent."""
    salesmen = ranking_windows([HOUR])[1]
    window = Window(entries=(Entry("Ana", 10**24 + 1, 3), Entry("Bia", 5, 1)), status="final", revision=7)
    record = ranking_set(salesmen, "BR", HOUR.bounds(491_804), window, watermark_ms=5, now_ms=9)
    schema = released(salesmen.topic)
    payload = encoder(Contract(258, schema))(record)
    assert payload[:5] == b"\x00\x00\x00\x01\x02"
    read_back = fastavro.schemaless_reader(io.BytesIO(payload[5:]), fastavro.parse_schema(dict(schema)), None)
    assert isinstance(read_back, dict)
    assert (read_back["ranking"], read_back["country"], read_back["status"]) == ("salesman", "BR", "final")
    assert [entry["rank"] for entry in read_back["entries"]] == [1, 2]
    assert read_back["entries"][0]["total_sales"] == Decimal("10000000000000000000000.01")
    assert read_back["entries"][1]["total_sales"] == Decimal("0.05")


@pytest.mark.parametrize(("cents", "text"), [(0, "0.00"), (5, "0.05"), (12_500_000, "125000.00")])
def test_money_has_two_decimals(cents: int, text: str) -> None:
    """Cents become an amount with two decimals."""
    assert str(money(cents)) == text


def test_an_unreachable_registry_is_named_with_its_settings() -> None:
    """The message says where the registry was sought and which settings decide it."""
    with pytest.raises(ContractError, match=r"127\.0\.0\.1:1.*SCHEMA_REGISTRY_PORT"):
        registered("http://127.0.0.1:1/apis/ccompat/v7", "rankings.city", released("rankings.city"))


def test_a_topic_without_contract_is_named() -> None:
    """A ranking whose topic is not in the contracts is rejected with that topic's name."""
    with pytest.raises(ContractError, match=r"rankings\.nothing"):
        released("rankings.nothing")
