"""What the pipeline logs while a test runs."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Log(logging.Handler):
    """Log lines as they come.

    Attributes:
        lines: event and fields.
    """

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((record.getMessage(), getattr(record, "fields", {})))

    def has(self, event: str) -> bool:
        return any(name == event for name, _ in self.lines)

    def last(self, event: str) -> dict[str, Any]:
        return self.all(event)[-1]

    def all(self, event: str) -> list[dict[str, Any]]:
        return [fields for name, fields in self.lines if name == event]


@contextmanager
def captured_logs(*stages: str) -> Iterator[Log]:
    """Collects what parts of the pipeline log, debug lines too."""
    log = Log()
    loggers = [logging.getLogger(f"standpipe.{stage}") for stage in stages]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(log)
        logger.setLevel(logging.DEBUG)
    try:
        yield log
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(log)
            logger.setLevel(level)
