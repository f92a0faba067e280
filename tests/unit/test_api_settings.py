"""Settings of the live stream, and the open files that its clients need."""

import resource

import pytest
from pydantic import SecretStr, ValidationError

from chassis import logs
from chassis.metrics import Metrics
from chassis.ops import Readiness
from chassis.settings import describe
from chassis.unit import Unit
from services.api.app import SPARE_FILES, allow_connections
from services.api.settings import ApiSettings


@pytest.mark.parametrize("token", ["", "0123456789abcdef", "A-Z.0_9~+--------"])
def test_token(token: str) -> None:
    """No token, or one that fits into a header and a subprotocol."""
    assert ApiSettings(live_token=SecretStr(token)).live_token.get_secret_value() == token


@pytest.mark.parametrize("token", ["short", "with spaces in between", "comma,0123456789abc", "ümlaut0123456789"])
def test_wrong_token(token: str) -> None:
    """A token that is too short, or that a browser cannot send, is rejected without being shown."""
    with pytest.raises(ValidationError) as caught:
        ApiSettings(live_token=SecretStr(token))
    line = describe(caught.value, ApiSettings, {"API_LIVE_TOKEN": token})
    assert line.startswith("API_LIVE_TOKEN (hidden)")
    assert token not in line


@pytest.mark.parametrize(
    ("soft", "hard", "raised"), [(1024, 9000, 2000 + SPARE_FILES), (4000, 9000, None), (1024, 1500, 1500)]
)
def test_open_files(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    soft: int,
    hard: int,
    raised: int | None,
) -> None:
    """The limit of open files is raised for as many clients as may connect; where it cannot be, the log says so."""
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limit: limits.append(limit))
    unit = Unit("api", logs.configure("api", "warning"), Metrics("api"), Readiness())
    allow_connections(unit, 2000)
    assert limits == ([] if raised is None else [(raised, hard)])
    assert ("ulimit" in capsys.readouterr().err) is (hard < 2000)
