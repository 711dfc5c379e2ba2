"""Structured logs: one line per event with run, asset and strategy on it, as JSON or for a console."""

import logging
import sys
from typing import Literal

import structlog


def configure_logging(style: Literal["json", "console"] = "console", level: int = logging.INFO) -> None:
    """Send every ``quant_assets`` log line to standard error in one style.

    Run id, asset key and strategy are bound once per step (`structlog.contextvars`) and appear on every line.
    """
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger that carries its module's name."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(source=name)
    return logger
