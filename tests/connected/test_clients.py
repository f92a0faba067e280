"""`placar psql` and `placar clickhouse` against the real servers."""

from collections.abc import Mapping

from tests.connected.commands import process


async def test_each_client_reaches_its_server(servers: Mapping[str, str]) -> None:
    """A query is answered under the account of the settings; with another password the server rejects."""
    postgres = await process("tools", servers, "psql", "-At", "-c", "SELECT current_database(), 6 * 7")
    assert (postgres.status, postgres.out) == (0, "sales|42\n"), postgres.err
    query = ("clickhouse", "--query", "SELECT currentDatabase(), 6 * 7")
    clickhouse = await process("tools", servers, *query)
    assert (clickhouse.status, clickhouse.out) == (0, "placar\t42\n"), clickhouse.err
    wrong = await process("tools", {**servers, "CLICKHOUSE_PASSWORD": 'a&<b"'}, *query)
    assert wrong.status != 0
    assert "assword" in wrong.err
