"""Errors that end a process with one readable line."""


class CannotRunError(Exception):
    """The service cannot run as it is configured; the message says what is wrong and what to do, in one line."""


class NotDoneError(Exception):
    """A command cannot do its work; the message says why and what to do, in one line."""
