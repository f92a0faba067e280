"""Errors that end a process with one readable line."""


class CannotRunError(Exception):
    """The service cannot run as it is configured; the message says what is wrong and what to do, in one line."""
