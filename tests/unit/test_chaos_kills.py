"""The order of the kills, and the table of what was measured."""

from tests.chaos.kills import BOUNDS_S, NEVER, Kill, order, table


def test_every_kind_is_killed_once_before_any_is_killed_again() -> None:
    """Twenty kills are five rounds of all kinds; the seed decides the order of each round."""
    dealt = list(order(7, 20))

    assert list(order(7, 20)) == dealt
    rounds = [dealt[at : at + len(BOUNDS_S)] for at in range(0, 20, len(BOUNDS_S))]
    assert all(sorted(one) == sorted(BOUNDS_S) for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1
    assert any(list(order(seed, 4)) != dealt[:4] for seed in range(7))


def test_the_table_shows_a_kill_that_nothing_came_back_from() -> None:
    """One line for each kill; what was not measured is blank, and what did not come is `never`."""
    lines = table(
        [
            Kill(("taskmanager1", "jobmanager"), 60, 31.24, 32.0, 1.5),
            Kill(("clickhouse",), None, None, NEVER, 2.0),
        ]
    )

    assert [line.split() for line in lines[1:]] == [
        ["1", "taskmanager1", "jobmanager", "31.2", "32.0", "60", "1.5"],
        ["2", "clickhouse", "never", "2.0"],
    ]
