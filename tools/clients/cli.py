"""`placar psql` and `placar clickhouse`, whose arguments are the client's own."""

import typer

OWN_ARGUMENTS = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": ["--help"]}


def psql(context: typer.Context) -> None:
    """The shop's database in psql: placar psql -c 'SELECT count(*) FROM sales'."""
    from tools.clients.app import become, psql

    become(psql(), context.args)


def clickhouse(context: typer.Context) -> None:
    """The served database in ClickHouse's client: placar clickhouse --query 'SELECT count() FROM sales'."""
    from tools.clients.app import become, clickhouse

    become(clickhouse(), context.args)
