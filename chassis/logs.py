"""Structured logs: one event per line, JSON unless a person is watching."""

import logging
import sys
import threading

import structlog

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class RateLimitFilter(logging.Filter):
    """Lets a line of a library through once per `seconds`: a client that retries logs the same many times a second.

    The next line that passes says how many were left out.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._last: dict[tuple[str, str], float] = {}
        self._left_out: dict[tuple[str, str], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line passes; its kind is its logger and its text before the values."""
        kind = (record.name, str(record.msg))
        if record.name == "placar" or record.created - self._last.get(kind, float("-inf")) >= self._seconds:
            self._last[kind] = record.created
            left_out = self._left_out.pop(kind, 0)
            if left_out:
                record.msg = f"{record.getMessage()} ({left_out} more like it)"
                record.args = ()
            return True
        self._left_out[kind] = self._left_out.get(kind, 0) + 1
        return False


def install_exception_hooks(logger: structlog.stdlib.BoundLogger) -> None:
    """What Python itself would print over several lines becomes an event: warnings, and errors that nobody caught."""
    logging.captureWarnings(True)
    threading.excepthook = lambda error: logger.error(
        "uncaught", where=error.thread.name if error.thread else None, exc_info=error.exc_value
    )
    sys.unraisablehook = lambda error: logger.error("uncaught", where=repr(error.object), exc_info=error.exc_value)


def configure(unit: str, level: str) -> structlog.stdlib.BoundLogger:
    """Send structlog and the standard library's logging to standard error in one shape; returns the unit's logger.

    Libraries log at warning and above, so that a line is worth reading.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]

    def of_unit(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["unit"] = unit
        return event

    person = sys.stderr.isatty()
    render: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer()]
        if person
        else [
            # without locals: a line stays readable, and no value of a frame ends in the log
            structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False)),
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(RateLimitFilter(10.0))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[of_unit, structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("placar").setLevel(LEVELS[level])
    logger: structlog.stdlib.BoundLogger = structlog.get_logger("placar", unit=unit)
    install_exception_hooks(logger)
    return logger
