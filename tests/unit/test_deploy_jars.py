"""The Java parts: the lock, and what counts as broken."""

from pathlib import Path

import pytest

from deploy import sbom
from deploy.native import jars
from deploy.native.packages import InstallError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files in a folder of jars."""
    (tmp_path / "jars" / "kafka").mkdir(parents=True)
    (tmp_path / "jars" / "kafka" / "a.jar").write_bytes(b"aaaa")
    (tmp_path / "jars" / "b with space.jar").write_bytes(b"bb")
    return tmp_path / "jars"


def test_the_lock_written_from_a_folder_accepts_exactly_that_folder(folder: Path) -> None:
    """Reading back what write_lock writes finds nothing wrong, also for a name with a space."""
    lock = jars.read_lock(jars.write_lock(folder))

    assert set(lock) == {"kafka/a.jar", "b with space.jar"}
    assert jars.wrong(folder, lock, contents=True) == []


def test_missing_broken_and_unknown_files_are_named(folder: Path) -> None:
    """A file that is gone, one with another content of the same size, and one that is not in the lock are all wrong."""
    lock = jars.read_lock(jars.write_lock(folder))
    (folder / "kafka" / "a.jar").write_bytes(b"aaab")
    (folder / "b with space.jar").unlink()
    (folder / "c.jar").write_bytes(b"c")

    assert jars.wrong(folder, lock, contents=True) == ["b with space.jar", "c.jar", "kafka/a.jar"]
    assert jars.wrong(folder, lock, contents=False) == ["b with space.jar", "c.jar"]


def test_a_broken_file_is_fetched_again_and_then_left_alone(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wrong file is replaced by a fetch; the next call fetches nothing."""
    (tmp_path / "lock").write_text(jars.write_lock(folder), "utf-8")
    monkeypatch.setattr(jars, "LOCK", tmp_path / "lock")
    (folder / "kafka" / "a.jar").write_bytes(b"aa")
    fetches = []

    def fetch(target: Path, cache: Path) -> None:
        fetches.append(cache)
        assert not (target / "kafka" / "a.jar").exists()
        (target / "kafka" / "a.jar").write_bytes(b"aaaa")

    monkeypatch.setattr(jars, "_fetch", fetch)

    assert jars.ensure(tmp_path) is True
    assert jars.ensure(tmp_path) is False
    assert len(fetches) == 1


def test_a_file_that_stays_wrong_is_an_error_after_a_second_try_with_an_empty_repository(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two fetches of a wrong file end in an error with its name; the second starts with an empty repository."""
    (tmp_path / "lock").write_text(jars.write_lock(folder), "utf-8")
    monkeypatch.setattr(jars, "LOCK", tmp_path / "lock")
    (folder / "kafka" / "a.jar").unlink()
    repositories = []

    def fetch(target: Path, cache: Path) -> None:
        repositories.append((cache / "repository").exists())
        (cache / "repository").mkdir(parents=True, exist_ok=True)
        (target / "kafka" / "a.jar").write_bytes(b"cut")

    monkeypatch.setattr(jars, "_fetch", fetch)

    with pytest.raises(InstallError, match=r"kafka/a\.jar"):
        jars.ensure(tmp_path)
    assert repositories == [False, False]


def test_the_committed_lock_holds_every_server() -> None:
    """The lock of the repository names broker, connector, registry, converter and Flink's two connectors once each."""
    names = list(jars.read_lock(jars.LOCK.read_text("utf-8")))

    for part in (
        "kafka/kafka_2.13-",
        "kafka/connect-runtime-",
        "plugins/debezium-connector-postgres/debezium-connector-postgres-",
        "plugins/apicurio-converter/apicurio-registry-utils-converter-",
        "flink/flink-sql-connector-kafka-",
        "flink/flink-sql-avro-confluent-registry-",
    ):
        assert len([name for name in names if name.startswith(part)]) == 1, part
    assert len([name for name in names if name.startswith("registry/") and name.endswith("-runner.jar")]) == 1


def test_the_bill_of_materials_has_every_jar_once_with_version_and_hash() -> None:
    """Each jar of the lock is listed by name and version; the same file in two folders is one component."""
    names = ("aa 1 kafka/log4j-core-2.25.4.jar", "aa 1 x/log4j-core-2.25.4.jar", "bb 2 services.jar", "c 3 a.txt")
    lock = "\n".join(names)

    parts = sorted(sbom.bom(lock).components, key=lambda part: part.name)

    assert [(part.name, part.version) for part in parts] == [("log4j-core", "2.25.4"), ("services", None)]
    assert [next(iter(part.hashes)).content for part in parts] == ["aa", "bb"]
