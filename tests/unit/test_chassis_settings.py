"""Typed settings and what is said of a wrong one."""

import pytest
from pydantic_settings import SettingsConfigDict

from chassis.settings import KafkaSettings, PostgresSettings, S3Settings, UnitSettings, load


class ExampleSettings(UnitSettings):
    """A unit's settings."""

    model_config = SettingsConfigDict(env_prefix="EXAMPLE_")
    ops_port: int = 9299


def test_defaults() -> None:
    """Without any variable everything is on this machine at the documented ports."""
    assert load(KafkaSettings).bootstrap == "127.0.0.1:9092"


def test_values_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable decides; the S3 endpoint follows its port."""
    monkeypatch.setenv("KAFKA_PORT", "19092")
    monkeypatch.setenv("S3_PORT", "19000")
    monkeypatch.setenv("EXAMPLE_OPS_PORT", "19299")
    monkeypatch.setenv("BIND_HOST", "127.0.0.2")
    assert load(KafkaSettings).bootstrap == "127.0.0.1:19092"
    assert load(S3Settings).endpoint == "http://127.0.0.1:19000"
    unit = load(ExampleSettings)
    assert (unit.ops_port, unit.bind_host) == (19299, "127.0.0.2")


@pytest.mark.parametrize(("name", "value"), [("EXAMPLE_OPS_PORT", "many"), ("LOG_LEVEL", "loud"), ("BIND_HOST", "")])
def test_wrong_setting_is_one_line(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong setting ends the process with status 2 and one line that names the variable and its value."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as end:
        load(ExampleSettings)
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert name in line
    assert repr(value) in line


def test_wrong_nested_setting_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong variable of a shared group is named with the group's prefix."""
    monkeypatch.setenv("LINEAGE_TRANSPORT", "pigeon")
    with pytest.raises(SystemExit):
        load(ExampleSettings)
    assert "LINEAGE_TRANSPORT 'pigeon'" in capsys.readouterr().err


def test_secret_is_not_shown() -> None:
    """A password is in no text of the settings."""
    assert "placar-pw" not in repr(PostgresSettings(password="placar-pw"))
