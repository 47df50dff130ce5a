"""Logs: one line per record on stderr, logfmt or JSON, in UTC, with credentials masked."""

import json
import logging
import re
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType

from celeryscope.redaction import redact

FORMATS = ("logfmt", "json")
THIRD_PARTIES = (
    "amqp",
    "celery",
    "kombu",
    "redis",
)  # at warning: what they tell otherwise is not about the cluster

_PLAIN = re.compile(r"[A-Za-z0-9_.:/@+\-]+")
# JSON leaves these as they are; terminals obey some of them, and lone surrogates cannot be written.
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

logger = logging.getLogger(__name__)


class LineFormatter(logging.Formatter):
    """A record as fields, in this order: ts, level, logger, thread, msg; and exc, a traceback."""

    def fields(self, record: logging.LogRecord) -> dict[str, str]:
        """Return the record's fields, masked."""
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):
            # A line with arguments that do not fit; raised on, logging itself would print them unmasked.
            message = f"{record.msg} {record.args!r}"
        fields = {
            "ts": datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "thread": record.threadName or "",
            "msg": redact(message),
        }
        traces = [self.formatException(record.exc_info)] if record.exc_info else []
        if record.stack_info:
            traces.append(self.formatStack(record.stack_info))
        if traces:
            fields["exc"] = redact("\n".join(traces))
        return fields


class LogfmtFormatter(LineFormatter):
    """key=value pairs; a value is quoted as in JSON unless it is a plain word."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        return " ".join(
            f"{key}={value if key != 'msg' and _PLAIN.fullmatch(value) else _quoted(value)}"
            for key, value in self.fields(record).items()
        )


class JsonFormatter(LineFormatter):
    """One JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        return _quoted(self.fields(record))


def setup(level: str = "info", format: str = "logfmt") -> None:
    """Send all logs to stderr from now on, and what would end a thread or the process unhandled too."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if format == "json" else LogfmtFormatter())
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(level=number, handlers=[handler], force=True)
    for name, known in logging.root.manager.loggerDict.items():
        if name.partition(".")[0] == "celeryscope" and isinstance(known, logging.Logger):
            known.disabled = False  # as `logging.config` leaves what was there before it
    for name in THIRD_PARTIES:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def _log_uncaught(type: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(type, KeyboardInterrupt):
        return
    logger.critical("the program ends by an error in it", exc_info=(type, error, traceback))


def _log_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not issubclass(args.exc_type, SystemExit):
        name = args.thread.name if args.thread else "unknown"
        traceback = (args.exc_type, args.exc_value, args.exc_traceback)
        logger.critical("the thread %s ends by an error in it", name, exc_info=traceback)


def _quoted(value: str | Mapping[str, str]) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
