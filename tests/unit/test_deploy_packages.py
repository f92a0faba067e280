"""System packages: versions, and what is done about what is missing."""

from pathlib import Path

import pytest

from deploy.native import packages
from deploy.native.packages import InstallError, Requirement


def requirement(name: str, version: tuple[int, ...] | None, daemon: str | None = None) -> Requirement:
    """A requirement of version 15 with a given finding."""
    return Requirement(name, (15,), name.lower(), daemon, lambda: version)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("openjdk 17.0.15 2025-04-15", (17, 0, 15)),
        ("\x1b[1mApache Maven 3.8.7\x1b[m", (3, 8, 7)),
        ("initdb (PostgreSQL) 16.2", (16, 2)),
        ("ClickHouse client version 18.16.1.", (18, 16, 1)),
        ("openjdk 21 2023-09-19", (21,)),
        ("no number", None),
    ],
)
def test_a_version_is_read_from_what_a_program_says(text: str, expected: tuple[int, ...] | None) -> None:
    """The first dotted number counts, colours do not."""
    assert packages.version(text) == expected


def test_only_absent_and_too_old_programs_are_missing() -> None:
    """A supported version is used as it is."""
    newer, same, older, absent = (
        requirement("Newer", (17, 1)),
        requirement("Same", (15, 0)),
        requirement("Older", (13, 9)),
        requirement("Absent", None),
    )

    assert packages.missing([newer, same, older, absent]) == [older, absent]


def test_without_administrator_rights_one_command_is_printed_and_nothing_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The error holds the whole command; no stamp is written."""
    monkeypatch.setattr(packages, "_administrator", lambda: None)
    monkeypatch.setattr(packages, "_has_apt", lambda: True)
    wanted = [requirement("Postgres", None, daemon="postgresql"), requirement("Maven", None)]

    with pytest.raises(InstallError) as caught:
        packages.ensure(tmp_path / "stamp", wanted)

    message = str(caught.value)
    assert "Postgres >= 15, Maven >= 15" in message
    assert "sudo apt-get install -y postgres maven && sudo systemctl disable --now postgresql" in message
    assert not (tmp_path / "stamp").exists()


def test_what_was_found_right_is_not_asked_again(tmp_path: Path) -> None:
    """The second call asks no program for its version."""
    checks = []

    def find() -> tuple[int, ...]:
        checks.append(1)
        return (99,)

    for _ in range(2):
        assert packages.ensure(tmp_path / "stamp", [Requirement("Java", (17,), "java", None, find)]) is False
    assert len(checks) == 1


def test_installed_daemons_are_not_left_running() -> None:
    """The script keeps the installation from starting services, and disables those that exist."""
    text = packages.script([requirement("Postgres", None, daemon="postgresql"), requirement("Maven", None)])

    assert "policy-rc.d" in text
    assert "systemctl disable --now postgresql" in text
    assert "systemctl disable --now" not in packages.script([requirement("Maven", None)])


def test_the_browser_is_for_tests_only() -> None:
    """Running Placar does not need a browser."""
    assert [each.package for each in packages.FOR_TESTS] == ["chromium"]
    assert not {each.package for each in packages.FOR_TESTS} & {each.package for each in packages.REQUIREMENTS}
