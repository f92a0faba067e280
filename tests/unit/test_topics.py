"""`placar topics` and `placar produce`: their pure rules and their usage."""

from typing import Any

import pytest

from tools.__main__ import main
from tools.topics.transform import headers, objects, reaches


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ('{"a": 1}', [{"a": 1}]),
        ('{"a": 1}\n{"a": 2}\n', [{"a": 1}, {"a": 2}]),
        ('\n{\n "a": 1\n}{"b": []} ', [{"a": 1}, {"b": []}]),
        ("", []),
        (" \n", []),
    ],
)
def test_one_or_many_records_in_a_text(text: str, values: list[Any]) -> None:
    """A pretty object, objects one per line, or nothing."""
    assert list(objects(text)) == values


@pytest.mark.parametrize("text", ["{", '{"a": 1} and', "{'a': 1}"])
def test_text_that_is_no_json(text: str) -> None:
    """The message names line and column of the mistake."""
    with pytest.raises(ValueError, match=r"line 1 column \d+"):
        list(objects(text))


def test_where_the_newest_records_begin() -> None:
    """So many offsets before the end of each partition, or where the partition begins."""
    assert reaches({"a": 0, "b": 90, "c": 5}, {"a": 100, "b": 95, "c": 5}, 10) == {"a": 90, "b": 90, "c": 5}


def test_headers_are_short_text() -> None:
    """A header's bytes are shown as text or in hexadecimal, none as a dash."""
    assert headers((("attempt", b"2"), ("id", b"\xff"), ("none", None))) == {"attempt": "2", "id": "ff", "none": "-"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["topics", "tail"], "TOPIC"),
        (["topics", "tail", "t", "-n", "0"], "'--lines'"),
        (["topics", "tail", "t", "-n", "many"], "'many'"),
        (["topics", "tail", "t", "-n", "3", "--from-beginning", "-f"], "leave out -f"),
        (["produce", "t"], "FILE"),
    ],
)
def test_wrong_usage(wrong: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong command line ends with status 2 and one line that says what is wrong."""
    assert main(wrong) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err
