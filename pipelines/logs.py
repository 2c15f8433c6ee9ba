"""Structured logs: one JSON object a line on stderr, configured by the command line alone.

A log call names an event, which is constant, and passes what varies as fields:

    log = logs.get_logger("bridge")
    log.info("connected", host="relay.example", cursor=17)

Fields that name the same thing have the same name everywhere: `did rev seq topic partition
offset stage reason host`. Record bodies are never logged.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

_ROOT = "standpipe"


class Logger:
    """A logger whose calls take an event name and fields."""

    def __init__(self, stage: str) -> None:
        self._logger = logging.getLogger(f"{_ROOT}.{stage}")

    def debug(self, event: str, **fields: Any) -> None:
        """Logs what only a person who looks for a defect wants to see."""
        self._log(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """Logs the ordinary course of things."""
        self._log(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Logs what an operator should know although the process copes with it."""
        self._log(logging.WARNING, event, fields)

    def error(self, event: str, *, exc_info: bool = False, **fields: Any) -> None:
        """Logs what the process cannot cope with."""
        self._log(logging.ERROR, event, fields, exc_info=exc_info)

    def _log(
        self, level: int, event: str, fields: dict[str, Any], *, exc_info: bool = False
    ) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, extra={"fields": fields}, exc_info=exc_info)


def get_logger(stage: str) -> Logger:
    """Returns the logger of a stage or part (`bridge`, `explode`, `kafka`, …)."""
    return Logger(stage)


def configure(*, level: int, stream: TextIO | None = None) -> None:
    """Sends logs to a stream; called by the command line alone.

    Args:
        level: the lowest level wanted, as in `logging`.
        stream: where to; stderr by default.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_JsonFormatter())
    root = logging.getLogger(_ROOT)
    root.handlers[:] = [handler]
    root.setLevel(level)
    root.propagate = False


def adopt(*names: str) -> None:
    """Sends the warnings of libraries where ours go; their chatter is kept back.

    Args:
        names: of their loggers.
    """
    for name in names:
        logger = logging.getLogger(name)
        logger.handlers[:] = logging.getLogger(_ROOT).handlers
        logger.setLevel(logging.WARNING)
        logger.propagate = False


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "stage": record.name.removeprefix(f"{_ROOT}."),
            "event": record.getMessage(),
        }
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)
