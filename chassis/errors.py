"""Errors whose message is for the operator: one readable line, why and what to do."""


class CannotRunError(Exception):
    """The service cannot run as it is configured; it ends."""


class HaltedError(Exception):
    """The service must not go on until somebody has looked.

    It stays, not ready, with the message as its reason: a restart by a supervisor would only hide it.
    """


class NotDoneError(Exception):
    """A command cannot do its work."""
