"""Window lengths: what the setting may say, where windows begin and end, and the names of their topics and tables."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis import publish
from chassis.settings import load
from contracts.time import iso
from contracts.windows import WindowLength, tables, topics, window_length, window_lengths
from deploy.native import __main__ as native
from flink.ranking.configuration import ConfigurationError, read
from services.api.settings import ApiSettings
from services.clickhouse_sink import ddl
from services.clickhouse_sink.settings import SinkSettings
from tools.__main__ import main as placar

HOUR_MS = 3_600_000
DAY = window_length("1d@America/Sao_Paulo")
WRONG = (
    *("", "soon", "h", "0h", "1w", "-1h", "1h 2h", "1h,", "5h", "7d", "7d@America/Sao_Paulo", "9999m"),
    *(
        "1h@America/Sao_Paulo",
        "24h@America/Sao_Paulo",
        "1d@Atlantis/Capital",
        "1d@",
        "1d@/etc/passwd",
        "1d@localtime",
        "1d@posix/America/Sao_Paulo",
    ),
    *("1h,1h", "1d,1d@America/Sao_Paulo", "1h,60m", "1d,24h", "1d@UTC,24h"),
)


@given(st.integers(0, 4_102_444_800_000))
def test_an_hour_holds_the_instant_that_its_index_is_computed_from(instant_ms: int) -> None:
    """Every instant lies within the bounds of the window with index instant / length, as the job's SQL computes it."""
    start, end = window_length("1h").bounds(instant_ms // HOUR_MS)
    assert start <= instant_ms < end
    assert end - start == HOUR_MS


@given(st.datetimes(datetime(2015, 1, 1), datetime(2030, 1, 1)))
def test_a_local_day_holds_the_local_date_that_its_index_is_computed_from(local: datetime) -> None:
    """A day in a time zone begins and ends at its own midnights, also where the clock is changed."""
    index = int((local - datetime(1970, 1, 1)).total_seconds()) // 86_400
    start, end = DAY.bounds(index)
    assert (end - start) / HOUR_MS in (23, 24, 25)
    assert DAY.bounds(index + 1)[0] == end


@given(st.sampled_from(["15m", "1h", "6h", "1d", "1d@America/Sao_Paulo", "1d@Asia/Kathmandu"]), st.integers(0, 2**32))
def test_an_instant_is_within_its_window(text: str, second: int) -> None:
    """The window that an instant falls into begins at or before it and ends after it."""
    length = window_length(text)
    start_ms, end_ms = length.bounds(length.index(second))
    assert start_ms <= second * 1000 < end_ms


def test_a_day_in_sao_paulo_begins_at_three_utc() -> None:
    """A day of another time zone is shifted by that zone's offset."""
    index = (datetime(2026, 2, 19) - datetime(1970, 1, 1)).days
    assert [iso(bound) for bound in DAY.bounds(index)] == ["2026-02-19T03:00:00Z", "2026-02-20T03:00:00Z"]


@pytest.mark.parametrize(
    ("date", "start", "hours"),
    [
        ("2018-11-03", "2018-11-03T03:00:00Z", 24),
        ("2018-11-04", "2018-11-04T03:00:00Z", 23),
        ("2018-11-05", "2018-11-05T02:00:00Z", 24),
        ("2019-02-16", "2019-02-16T02:00:00Z", 25),
        ("2019-02-17", "2019-02-17T03:00:00Z", 24),
        ("2019-11-03", "2019-11-03T03:00:00Z", 24),
    ],
)
def test_days_on_which_the_clock_was_changed(date: str, start: str, hours: int) -> None:
    """Brazil's last summer time began at a midnight that did not exist and ended at one that came an hour later."""
    noon = datetime.fromisoformat(f"{date}T12:00").replace(tzinfo=ZoneInfo("America/Sao_Paulo"))
    start_ms, end_ms = DAY.bounds(DAY.index(int(noon.timestamp())))
    assert (iso(start_ms), end_ms - start_ms) == (start, hours * HOUR_MS)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("1h", WindowLength("1h", 3600)),
        ("15m", WindowLength("15m", 900)),
        ("1d", WindowLength("1d", 86_400)),
        ("1d@America/Sao_Paulo", WindowLength("1d", 86_400, "America/Sao_Paulo")),
        ("1d@UTC", WindowLength("1d", 86_400)),
    ],
)
def test_lengths_are_read(text: str, length: WindowLength) -> None:
    """Minutes and hours that divide a day, a day, and a day in a time zone."""
    assert window_length(text) == length


def test_the_setting_is_read_in_its_order() -> None:
    """Lengths are separated by commas, with or without spaces; the first one is the main one."""
    assert [length.label for length in window_lengths("1h, 1d@America/Sao_Paulo,15m")] == ["1h", "1d", "15m"]


@pytest.mark.parametrize("text", WRONG)
def test_other_settings_are_rejected(text: str) -> None:
    """What is no length, does not divide a day, is an hour in a zone, or occurs twice is rejected, by the job too."""
    with pytest.raises(ValueError, match=r"window|time zone|occurs twice") as rejected:
        window_lengths(text)
    with pytest.raises(ConfigurationError) as of_job:
        read({"RANKING_WINDOWS": text})
    assert str(rejected.value) in str(of_job.value)
    assert "RANKING_WINDOWS" in str(of_job.value)


@pytest.mark.parametrize(
    "start",
    [
        lambda: asyncio.run(publish.main()),
        ddl.main,
        partial(placar, ["audit"]),
        partial(native.main, ["status"]),
        partial(load, SinkSettings),
        partial(load, ApiSettings),
    ],
    ids=["publish", "ddl", "audit", "native", "sink", "api"],
)
@pytest.mark.parametrize("text", ["7d", "1h,1h"])
def test_every_process_rejects_a_wrong_setting(
    start: Callable[[], object], text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each process that reads the setting ends at once with status 2 and one line that names it."""
    monkeypatch.setenv("RANKING_WINDOWS", text)
    with pytest.raises(SystemExit) as ended:
        start()
    err = capsys.readouterr().err
    assert (ended.value.code, err.count("\n")) == (2, 1)
    assert f"RANKING_WINDOWS '{text}'" in err


def test_names() -> None:
    """The first length has the ranking's own topic and table, each further one a name with its label."""
    lengths = window_lengths("1h,1d@America/Sao_Paulo")
    assert topics("rankings.city", lengths) == {"1h": "rankings.city", "1d": "rankings.city.1d"}
    assert tables("top_sales_city", lengths) == {"1h": "top_sales_city", "1d": "top_sales_city_1d"}


def test_keys_are_utc_instants() -> None:
    """The key of a window is its start as an ISO instant in UTC."""
    assert iso(int(datetime(2026, 2, 19, 10, tzinfo=UTC).timestamp() * 1000)) == "2026-02-19T10:00:00Z"
