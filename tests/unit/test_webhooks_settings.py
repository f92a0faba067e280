"""Settings of the webhook receiver: secrets and the public address."""

import pytest

from chassis.settings import load
from contracts.webhooks import SECRETS
from services.webhooks.settings import WebhooksSettings


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """None from the shell in which the tests run."""
    for name in (*SECRETS.values(), "WEBHOOKS_PUBLIC_URL"):
        monkeypatch.delenv(name, raising=False)


def test_no_secret_is_the_default() -> None:
    """Nothing is accepted until somebody has set one."""
    assert all(WebhooksSettings().secrets(provider) == () for provider in SECRETS)


@pytest.mark.parametrize("name", SECRETS.values())
def test_two_secrets_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One, or the newest and the one before it, in this order; an empty setting is none."""
    (provider,) = [provider for provider, setting in SECRETS.items() if setting == name]
    for text, secrets in (("", ()), ("whsec_new", ("whsec_new",)), ("new,old", ("new", "old"))):
        monkeypatch.setenv(name, text)
        assert load(WebhooksSettings).secrets(provider) == secrets


@pytest.mark.parametrize("name", SECRETS.values())
@pytest.mark.parametrize("text", [" ", ",", "hush,", ",hush", "hush, old", "hush,old,older", "hush\n", "hüsh"])
def test_a_wrong_secret_ends_with_one_line(
    name: str, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Blank, too many, or not what a provider gives: the line names the setting, and no secret."""
    monkeypatch.setenv(name, text)
    with pytest.raises(SystemExit) as end:
        load(WebhooksSettings)
    line = capsys.readouterr().err
    assert end.value.code == 2
    assert line.startswith(f"wrong setting: {name} (hidden): ")
    assert line.count("\n") == 1
    assert "h\u00fcsh" not in line
    assert "hush" not in line


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in a representation nor in JSON."""
    for name in SECRETS.values():
        monkeypatch.setenv(name, "do-not-show")
    settings = WebhooksSettings()
    assert "do-not-show" not in repr(settings) + str(settings) + settings.model_dump_json()


def test_the_public_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default that of the port; otherwise what is set, without a slash at its end."""
    monkeypatch.setenv("WEBHOOKS_PORT", "18091")
    assert WebhooksSettings().public_url == "http://127.0.0.1:18091"
    monkeypatch.setenv("WEBHOOKS_PUBLIC_URL", "https://hooks.example.com/placar/")
    assert WebhooksSettings().public_url == "https://hooks.example.com/placar"


@pytest.mark.parametrize("text", ["", "hooks.example.com", "ftp://hooks.example.com", "https://", "https://x?y=1"])
def test_a_wrong_public_address(text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It ends the process with a line that names the setting."""
    monkeypatch.setenv("WEBHOOKS_PUBLIC_URL", text)
    with pytest.raises(SystemExit):
        load(WebhooksSettings)
    assert "WEBHOOKS_PUBLIC_URL" in capsys.readouterr().err
