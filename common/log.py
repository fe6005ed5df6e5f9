"""How logs look. One line at the door: what, which id, how long."""

import json
import logging
import re
import sys
import threading
import time
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import structlog

from common import tracing
from common.settings import Settings

_SETTLED_S: Final = 2.0


def configure(settings: Settings, process: str) -> None:
    """Send structlog's and the standard library's records to standard error."""

    def complete(logger: object, method: str, line: Any) -> Any:
        # In one step, for a line is written for every request.
        line = {"process": process, **line}
        if trace := tracing.trace_id():
            line["trace"] = trace
        structlog.contextvars.merge_contextvars(logger, method, line)
        line["level"] = method
        line["timestamp"] = datetime.now(UTC).isoformat().removesuffix("+00:00") + "Z"
        if "exc_info" in line:
            structlog.processors.format_exc_info(logger, method, line)
        return line

    level = settings.log_level.upper()
    if settings.log_format == "json":
        renderers: list[Any] = [_json]
    else:
        people = structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0)
        renderers = [_make_visible, people]
    structlog.configure(
        processors=[complete, *renderers],
        # Past the standard library's records, which would cost as much again.
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    _take_in_foreign(level, complete, renderers)


def _take_in_foreign(level: str, complete: Any, renderers: list[Any]) -> None:
    """The standard library's records, of other people's packages, in the same form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *renderers,
            ],
            foreign_pre_chain=[complete],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    # The pool repeats each failed attempt; what it means is told once, by us.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    # A socket whose client is gone cannot be closed in order; that it closed is told.
    logging.getLogger("falcon").setLevel(logging.ERROR)


_encoder: Final = json.JSONEncoder(default=repr)


def _json(_logger: object, _method: str, line: Any) -> str:
    """In ASCII, so that nothing in a line can end it or turn it around."""
    try:
        # Four times as fast, but it leaves other alphabets as they are.
        text = msgspec.json.encode(line, enc_hook=repr)
    except (UnicodeEncodeError, OverflowError):
        return _encoder.encode(line)
    if not text.isascii() or b"\x7f" in text:
        return _encoder.encode(line)
    return text.decode()


# Also what ends a line or turns it around in the eyes of Unicode.
_CONTROL: Final = re.compile(
    "[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]"
)


def _make_visible(_logger: object, _method: str, line: Any) -> Any:
    """Let nobody's name or message move the reader's cursor or forge a line."""
    visible = {k: _visible(v) if isinstance(v, str) else v for k, v in line.items()}
    if traceback := line.get("exception"):
        visible["exception"] = "\n".join(
            f"  {_visible(words)}" for words in traceback.split("\n")
        )
    return visible


def _visible(text: str) -> str:
    return _CONTROL.sub(lambda c: c[0].encode("unicode_escape").decode(), text)


def logger() -> structlog.typing.FilteringBoundLogger:
    bound: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return bound


class Outage:
    """Says once that a server is gone and once that it is back, however many notice."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._gone = False
        self._failed_at = 0.0
        self._lock = threading.Lock()

    def began(self, error: BaseException) -> None:
        with self._lock:
            news, self._gone = not self._gone, True
            self._failed_at = time.monotonic()
        if news:
            logger().warning(f"{self._server} is gone", reason=str(error))

    def ended(self) -> None:
        if not self._gone:
            return
        with self._lock:
            # The others find their old connections broken a moment later.
            settled = time.monotonic() - self._failed_at > _SETTLED_S
            news = self._gone and settled
            self._gone = self._gone and not settled
        if news:
            logger().info(f"{self._server} is back")
