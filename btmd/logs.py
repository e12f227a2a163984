"""The daemon's own log: to the journal with fields, else to standard error as text or as JSON lines.

Messages that are about a training begin with ``job %s``, its id being the first argument: that is the field ``JOB_ID``.
Those about an event have its number in ``extra={"event_seq": ...}``: ``EVENT_SEQ``.
"""

import json
import logging
import socket
import struct
import sys
import time
from collections.abc import Mapping
from typing import Any

from btmd.control_characters import clean, clean_json

JOURNAL = "/run/systemd/journal/socket"
TEXT, JSON = "text", "json"
FORMS = (TEXT, JSON)
IDENTIFIER = "btmd"
MOST_BYTES = 48 * 1024
"""Of one field: a datagram takes some 200 kB, and a message that long tells nobody anything."""
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_NOISY = ("aiosqlite", "asyncio", "watchfiles", "sqlalchemy")


def set_up_log(level: str, form: str, *, journal: bool) -> None:
    """Have everything that is logged go to the journal, where standard error leads there, else to standard error."""
    handler = _handler(form, journal=journal)
    handler.addFilter(about)
    logging.basicConfig(level=level.upper(), handlers=[handler])
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _handler(form: str, *, journal: bool) -> logging.Handler:
    if journal and form == TEXT:
        try:
            return JournalHandler()
        except OSError:
            # The journal's own text: it adds the time.
            plain = logging.StreamHandler(sys.stderr)
            plain.setFormatter(TextFormatter("%(name)s: %(message)s"))
            return plain
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter() if form == JSON else TextFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    )
    return handler


def about(record: logging.LogRecord) -> bool:
    """A filter that notes on each record which training it is about."""
    if not hasattr(record, "job_id"):
        record.job_id = ""
        if isinstance(record.args, tuple) and record.args and str(record.msg).startswith("job %s"):
            record.job_id = str(record.args[0])
    return True


def fields_of(record: logging.LogRecord, message: str) -> dict[str, str]:
    """What the journal is told of a record, by its names for fields."""
    found = {
        "MESSAGE": message,
        "PRIORITY": str(next((one for level, one in _PRIORITIES if record.levelno >= level), 7)),
        "SYSLOG_IDENTIFIER": IDENTIFIER,
        "LOGGER": record.name,
        "CODE_FILE": record.pathname,
        "CODE_LINE": str(record.lineno),
        "CODE_FUNC": record.funcName or "",
        "JOB_ID": getattr(record, "job_id", ""),
        "EVENT_SEQ": str(getattr(record, "event_seq", "")),
    }
    return {name: value for name, value in found.items() if value}


class JournalHandler(logging.Handler):
    """Sends records to systemd's journal by its native protocol. Raises OSError where there is no journal.

    The protocol: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/
    """

    def __init__(self, path: str = JOURNAL) -> None:
        super().__init__()
        # Of several lines it makes no further entries, as a reader of plain text would.
        self.setFormatter(TextFormatter("%(message)s", keep="\n\t"))
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.connect(path)
        except OSError:
            self._socket.close()
            raise
        # A journal that does not keep up costs lines, not the daemon's time.
        self._socket.setblocking(False)
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        message = self.format(record)
        if self._lost:
            message = f"{message} ({self._lost} lines before this one were lost)"
        try:
            self._socket.send(as_datagram(fields_of(record, message)))
            self._lost = 0
        except OSError:
            self._lost += 1

    def close(self) -> None:
        self._socket.close()
        super().close()


def as_datagram(fields: Mapping[str, str]) -> bytes:
    """``NAME=value`` a line; a value of several lines has its length in front (64 bits, little-endian)."""
    made = bytearray()
    for name, value in fields.items():
        data = value.encode("utf-8", "replace")[:MOST_BYTES]
        if b"\n" in data:
            made += name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
        else:
            made += name.encode() + b"=" + data + b"\n"
    return bytes(made)


class TextFormatter(logging.Formatter):
    """Records as text in which a name from elsewhere neither steers a terminal nor looks like a line of its own."""

    def __init__(self, form: str, *, keep: str = "") -> None:
        super().__init__(form)
        self._keep = keep

    def formatMessage(self, record: logging.LogRecord) -> str:
        return clean(super().formatMessage(record), self._keep)

    def formatException(self, ei: Any) -> str:
        return clean(super().formatException(ei), "\n\t")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (RFC 3339, UTC), level, logger, message, and job_id, event_seq where there are."""

    def format(self, record: logging.LogRecord) -> str:
        made = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        told: dict[str, Any] = {
            "time": f"{made}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        for name in ("job_id", "event_seq"):
            if getattr(record, name, ""):
                told[name] = getattr(record, name)
        return clean_json(json.dumps(told, ensure_ascii=False))
