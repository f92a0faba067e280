"""`placar lineage`."""


def lineage() -> int:
    """Print the lineage graph as a tree from its sources, with the newest run of every job."""
    from tools.lineage.app import run

    return run()
