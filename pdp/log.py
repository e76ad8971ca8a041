"""How the service speaks of itself: structured lines on standard error.

Records of sessions are not logs; `pdp.audit` has them.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO, cast

import orjson
import structlog

from pdp.config import Log
from pdp.v1.log_output import LogOutput


def configure(settings: Log) -> None:
    """Sets up logging for the whole process, libraries included."""
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if settings.format == "json":
        rendered: list[Any] = [
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(serializer=lambda event, **_: orjson.dumps(event, default=repr).decode()),
        ]
    else:
        rendered = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    structlog.configure(
        processors=[*shared, *rendered],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, LogOutput(sys.stderr))),
        cache_logger_on_first_use=False,
    )
    # Libraries say little, and some of them would log what they send.
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, force=True)
