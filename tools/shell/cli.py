"""`placar shell`."""


def shell() -> int:
    """Python with settings, topics, registry and ClickHouse at hand, and await at the prompt."""
    from tools.shell.app import run

    return run()
