"""Profiles: what runs only where it is chosen, and the secrets that come with one."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from chassis.settings import load
from deploy import compose, doctor
from deploy.doctor import Checkout
from deploy.native import __main__ as native
from deploy.native import dev as development
from deploy.native import processes, render, state, status, supervise, webhook_secrets
from deploy.native.settings import PORTS, NativeSettings
from deploy.native.table import TABLE, Described
from tests.unit.test_deploy_settings import DOCUMENTED
from tools import __main__ as placar

UNIT = Described(
    module="services.nightly",
    ports={"NIGHTLY_OPS_PORT": 9299},
    needs=("contracts",),
    environment={"STRIPE_WEBHOOK_SECRETS": "${STRIPE_WEBHOOK_SECRETS}"},
    profile="nights",
)
Loaded = Callable[[], NativeSettings]


@pytest.fixture
def loaded(settings: NativeSettings, monkeypatch: pytest.MonkeyPatch) -> Loaded:
    """Loads the settings of a table with the unit `nightly` of the profile `nights`, whose secrets `up` makes."""
    monkeypatch.setitem(TABLE.units, "nightly", UNIT)
    monkeypatch.setitem(PORTS, "NIGHTLY_OPS_PORT", (9299, "nightly"))
    monkeypatch.setattr(webhook_secrets, "PROFILE", "nights")
    (settings.state_dir / state.MARKER).touch()
    for name in ("PLACAR_PROFILES", "COMPOSE_PROFILES", *webhook_secrets.NAMES):
        monkeypatch.delenv(name, raising=False)
    return lambda: load(NativeSettings)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """What each `up` would have started."""
    starts: list[set[str]] = []

    def start(_: NativeSettings, nodes: dict[str, object]) -> int:
        starts.append(set(nodes))
        return 1

    monkeypatch.setattr(native, "_start", start)
    return starts


def running(settings: NativeSettings) -> bool:
    """Whether the unit is one that the supervisor gets, that `status` shows and that Prometheus scrapes."""
    text = render.configuration(settings, processes.chosen(settings)).read_text("utf-8")
    scraped = json.loads((settings.state_dir / "conf" / "prometheus" / "targets.json").read_text("utf-8"))
    seen = {
        "[program:nightly]" in text,
        "nightly" in [each["labels"]["instance"] for each in scraped],
        "nightly" in [each.name for each in processes.chosen(settings)],
    }
    assert len(seen) == 1
    return seen.pop()


def test_a_profile_runs_from_the_up_that_names_it_until_down(loaded: Loaded, started: list[set[str]]) -> None:
    """`up` alone starts nothing of it; once named, a further `up` keeps it, and after `down` it is gone."""
    native.main(["up"])
    assert not running(loaded())
    native.main(["up", "nights"])
    assert running(loaded())
    native.main(["up"])
    assert running(loaded())
    assert native.main(["down"]) == 0
    native.main(["up"])

    assert not running(loaded())
    assert ["nightly" in names for names in started] == [False, True, True, False]
    assert started[1] - started[0] == {"nightly"}


def test_the_setting_chooses_a_profile_for_every_up(
    loaded: Loaded, started: list[set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """PLACAR_PROFILES lists them, separated by commas."""
    monkeypatch.setenv("PLACAR_PROFILES", " nights,")
    native.main(["up"])

    assert "nightly" in started[0]
    assert running(loaded())


def test_a_unit_that_is_named_brings_its_profile(loaded: Loaded, started: list[set[str]]) -> None:
    """With --only it starts with what it needs."""
    native.main(["up", "--only", "nightly"])

    assert {"nightly", "contracts", "kafka"} <= started[0]
    assert "api" not in started[0]
    assert running(loaded())


def test_dev_runs_the_units_that_are_chosen_or_named(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without names all that `up` would start; a name is enough for a unit of any profile."""
    ran: list[list[str]] = []
    monkeypatch.setattr(native, "_start", lambda *_: 0)
    monkeypatch.setattr(development, "run", lambda _, table, units, log: ran.append([*units]))
    for arguments in (["dev"], ["dev", "nightly"]):
        assert native.main(arguments) == 0
    state.remember(loaded().state_dir, {"nights"})
    assert native.main(["dev"]) == 0

    assert ran[1] == ["nightly"]
    assert {*ran[2]} - {*ran[0]} == {"nightly"}


def test_addresses_are_shown_of_what_runs(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    """`up` and `status` name no address at which nothing listens."""
    assert "webhooks" not in status.urls(loaded())
    monkeypatch.setenv("PLACAR_PROFILES", "webhooks")
    assert status.urls(loaded())["webhooks"] == "http://127.0.0.1:8091/health"


def test_an_unknown_profile_is_named_with_those_there_are(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, of the command and of the setting."""
    assert native.main(["up", "days"]) == 1
    assert compose.run(loaded(), "up", ["days"]) == 1
    there = f"there is no profile 'days'; there are {', '.join(TABLE.profiles)}"
    assert capsys.readouterr().err == f"up: {there}\n" * 2

    monkeypatch.setenv("PLACAR_PROFILES", "days")
    with pytest.raises(SystemExit):
        native.main(["status"])
    assert capsys.readouterr().err == f"wrong setting: PLACAR_PROFILES 'days': Value error, {there}\n"


def test_a_port_matters_only_where_its_profile_is_chosen(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another process may have the default port of a unit that does not run."""
    monkeypatch.setenv("API_PORT", "9299")
    monkeypatch.setattr(supervise, "launch", lambda *_: pytest.fail("launched"))

    with pytest.raises(pytest.fail.Exception, match="launched"):
        native.main(["up", "--only", "api"])
    assert native.main(["up", "nights", "--only", "api"]) == 1
    assert capsys.readouterr().err == "NIGHTLY_OPS_PORT and API_PORT are both 9299: change one in .env\n"
    for profiles, present in ((TABLE.profiles, set(PORTS) - {"NIGHTLY_OPS_PORT"}), ([], None)):
        ports = doctor.ports({}, profiles)
        assert set(ports) == (present or {name for name, (_, of) in PORTS.items() if of not in TABLE.without([])})
        assert all(DOCUMENTED[name] == port for name, port in ports.items())


def test_the_doctor_knows_the_chosen_profiles(tmp_path: Path) -> None:
    """Those of the setting, and those that the state folder remembers."""
    assert Checkout({}, tmp_path, tmp_path).profiles == set()
    state.remember(tmp_path, {"nights", "days"})
    assert Checkout({"PLACAR_PROFILES": "weeks"}, tmp_path, tmp_path).profiles == {"nights", "days", "weeks"}


def test_what_runs_always_needs_nothing_of_a_profile() -> None:
    """And a profile needs nothing of another."""
    described = {**TABLE.processes, **TABLE.steps}
    for name, each in described.items():
        assert {described[need].profile for need in each.needs} <= {"", each.profile}, name


def test_secrets_are_made_once_and_given_to_the_unit_that_needs_them(
    loaded: Loaded, started: list[set[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Random, readable by nobody else, in no other unit's script and in no output but that of `secrets`."""
    monkeypatch.setenv("HUBSPOT_CLIENT_SECRETS", "mine")
    native.main(["up"])
    assert not webhook_secrets.file(loaded()).exists()
    native.main(["up", "nights"])
    made = webhook_secrets.known(loaded())
    native.main(["up", "nights"])

    assert webhook_secrets.known(loaded()) == made
    assert made["HUBSPOT_CLIENT_SECRETS"] == "mine"
    random = {*made["SHOPIFY_WEBHOOK_SECRETS"].split(","), *made["STRIPE_WEBHOOK_SECRETS"].split(",")}
    assert [len(secret) for secret in random] == [64] * 4
    assert webhook_secrets.file(loaded()).stat().st_mode & 0o077 == 0
    render.configuration(loaded(), processes.chosen(loaded()))
    written = {path.name: path.read_text("utf-8") for path in (loaded().state_dir / "conf").rglob("*.*")}
    assert {name for name, text in written.items() if any(secret in text for secret in random)} == {"nightly.sh"}
    assert not [secret for secret in random if secret in "".join(capsys.readouterr())]
    assert native.main(["secrets"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{name}={value}" for name, value in made.items()]


def test_a_secret_of_the_environment_wins_and_nothing_is_a_value(
    loaded: Loaded, started: list[set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider whose setting is empty gets no random secret: its path stays closed."""
    monkeypatch.setenv("SHOPIFY_WEBHOOK_SECRETS", "")
    native.main(["up", "nights"])
    assert webhook_secrets.known(loaded())["SHOPIFY_WEBHOOK_SECRETS"] == ""
    monkeypatch.setenv("STRIPE_WEBHOOK_SECRETS", "newer,older")
    assert webhook_secrets.known(loaded())["STRIPE_WEBHOOK_SECRETS"] == "newer,older"
    assert "SHOPIFY" not in webhook_secrets.file(loaded()).read_text("utf-8")


def test_a_command_of_placar_reads_the_secrets_of_the_state_folder(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The simulator signs with what the receiver checks, also where `.env` names the folder."""
    assert [*placar.settings_files()][-1] == webhook_secrets.file(loaded())
    (tmp_path / ".env").write_text(f"PLACAR_STATE={loaded().state_dir}\n")
    monkeypatch.setenv("PLACAR_DOTENV", str(tmp_path / ".env"))
    monkeypatch.delenv("PLACAR_STATE")
    for file in placar.settings_files():
        if file.name == ".env":
            monkeypatch.setenv("PLACAR_STATE", file.read_text("utf-8").strip().partition("=")[2])
    assert file == webhook_secrets.file(loaded())


def test_containers_get_the_profiles_and_secrets(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of docker compose a profile is one more of its own; it is remembered until `down` as natively."""
    docker = tmp_path / "docker"
    docker.write_text(
        '#!/bin/sh\nprintf "%s %s\\n" "$COMPOSE_PROFILES" "$STRIPE_WEBHOOK_SECRETS" >> "$0.calls"\nexit 1\n'
    )
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    for arguments in (["up"], ["up", "nights"], ["up", "--only", "nightly"], ["down"], ["up"]):
        compose.run(loaded(), arguments[0], arguments[1:])

    profiles, secrets = zip(
        *(line.split(" ") for line in (tmp_path / "docker.calls").read_text("utf-8").splitlines()), strict=True
    )
    usual = "core,observability"
    assert list(profiles) == [usual, f"{usual},nights", f"{usual},nights", usual, usual]
    assert [len(secret) for secret in secrets] == [0, 129, 129, 129, 129]
