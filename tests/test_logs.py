"""The daemon's own log: fields for the journal, JSON lines, and the events that it tells of."""

import json
import logging
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btmd.logs import JournalHandler, about, as_datagram
from tests.fixtures.daemon import DaemonProcess, config_of
from tests.fixtures.short_folder import short_folder

NAMES = st.from_regex(r"[A-Z][A-Z_]{0,10}", fullmatch=True)


def parsed(datagram: bytes) -> dict[str, str]:
    """As the journal reads it."""
    found = {}
    while datagram:
        line, _, rest = datagram.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (length,) = struct.unpack("<Q", rest[:8])
            value, rest = rest[8 : 8 + length], rest[8 + length :]
            assert rest[:1] == b"\n"
            rest = rest[1:]
        found[name.decode()] = value.decode("utf-8", "replace")
        datagram = rest
    return found


@given(st.dictionaries(NAMES, st.text(st.characters(codec="utf-8"))))
def test_what_is_sent_is_what_the_journal_reads(fields: dict[str, str]) -> None:
    assert parsed(as_datagram(fields)) == fields


@pytest.fixture
def journal() -> Iterator[tuple[socket.socket, str]]:
    with short_folder() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiving:
        path = str(folder / "journal")
        receiving.bind(path)
        receiving.settimeout(10)
        yield receiving, path


def test_a_line_about_a_training_has_its_id_as_a_field(journal: tuple[socket.socket, str]) -> None:
    receiving, path = journal
    handler = JournalHandler(path)
    handler.addFilter(about)
    log = logging.getLogger("btmd.test")
    log.addHandler(handler)
    try:
        log.warning("job %s: it is\nthere\x1b[2J", "k3q7")
        log.error("event %d", 7, extra={"event_seq": 7})
    finally:
        log.removeHandler(handler)
        handler.close()
    first, second = parsed(receiving.recv(65536)), parsed(receiving.recv(65536))
    assert (first["MESSAGE"], first["JOB_ID"], first["PRIORITY"]) == ("job k3q7: it is\nthere\\x1b[2J", "k3q7", "4")
    assert (second["EVENT_SEQ"], second["PRIORITY"], "JOB_ID" in second) == ("7", "3", False)
    assert second["SYSLOG_IDENTIFIER"] == "btmd"


def test_what_a_journal_that_does_not_keep_up_lost_is_told(journal: tuple[socket.socket, str]) -> None:
    receiving, path = journal
    handler = JournalHandler(path)
    for _ in range(100):
        handler.emit(logging.makeLogRecord({"msg": "x" * 40_000, "levelno": logging.INFO}))
    received = 0
    receiving.setblocking(False)
    try:
        while receiving.recv(65536):
            received += 1
    except BlockingIOError:
        pass
    assert received < 100
    handler.emit(logging.makeLogRecord({"msg": "after", "levelno": logging.INFO}))
    assert parsed(receiving.recv(65536))["MESSAGE"] == f"after ({100 - received} lines before this one were lost)"
    handler.close()


LOGGED = """
import logging, sys
from btmd.logs import set_up_log
set_up_log("info", sys.argv[1], journal=False)
path = "a\\x1b[2Jb\\x9b1A\\n2026-11-23 10:00:00,000 ERROR btmd: forged"
try:
    raise ValueError(path)
except ValueError:
    logging.getLogger("btmd.test").exception("cannot read %s", path)
"""


def logged(form: str) -> str:
    done = subprocess.run([sys.executable, "-c", LOGGED, form], stderr=subprocess.PIPE, check=True)
    return done.stderr.decode()


def test_a_name_in_the_log_neither_steers_a_terminal_nor_looks_like_a_line_of_its_own() -> None:
    text = logged("text")
    assert all(letter == "\n" or letter.isprintable() for letter in text)
    told, *traceback = text.splitlines()
    assert told.endswith("ERROR btmd.test: cannot read a\\x1b[2Jb\\x9b1A 2026-11-23 10:00:00,000 ERROR btmd: forged")
    assert traceback[0] == "Traceback (most recent call last):"
    assert "ValueError: a\\x1b[2Jb\\x9b1A" in traceback
    [line] = logged("json").splitlines()
    assert line.isprintable()
    assert json.loads(line)["message"] == "cannot read a\x1b[2Jb\x9b1A\n2026-11-23 10:00:00,000 ERROR btmd: forged"


def test_json_lines_tell_of_every_event_and_of_nothing_in_it() -> None:
    with short_folder() as folder:
        with DaemonProcess(
            config_of(folder, log_level="info"), "--log-level", "info", "--log-format", "json"
        ) as daemon:
            daemon.client.patch("/settings", {"changes": {"training.seed": 7654}}).ok()
            number = daemon.client.events(type="SettingChanged")[0]["seq"]
            log = daemon.log
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        told = [one for one in lines if one.get("event_seq") == number]
        assert [one["level"] for one in told] == ["info"]
        assert "SettingChanged in settings" in told[0]["message"]
        assert "7654" not in log.read_text()


def test_a_terminal_below_a_service_is_not_the_journal(tmp_path: Path) -> None:
    program = "from btmd.config import read_config; print(read_config([]).systemd.journal)"

    def run(stream: str, stderr: int) -> str:
        environment = {**os.environ, "JOURNAL_STREAM": stream, "HOME": str(tmp_path)}
        done = subprocess.run([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, stderr=stderr)
        return done.stdout.decode().strip()

    reading, writing = os.pipe()
    status = os.fstat(writing)
    assert run(f"{status.st_dev}:{status.st_ino}", writing) == "True"
    assert run("8:12345", writing) == "False"
    os.close(reading)
    os.close(writing)
