"""The verifier for strangers: honest exports are accepted, every tampering is named with its place."""

import ast
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from btmd.audit import export as exporting
from btmd.audit import verify_audit
from btmd.audit.verify_audit import Finding, Head, told, verify
from btmd.store.migrations import Migration, prepare_database, released_migrations
from tests.audit import tampering
from tests.audit.exports import KEY, OTHER_KEY, export, make_log, public
from tests.audit.tampering import KINDS, Tampered, hashed, head_at, row
from tests.backup.logs import NOW_US

PROOF = os.environ.get("BTMD_PROOF") == "1"
ROUNDS = 200 if PROOF else 30
OLD_STORES = Path(__file__).parents[1] / "fixtures" / "old_stores"
Check = Callable[..., Finding]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "btmd.db"
    make_log(path)
    return path


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Check:
    path = tmp_path_factory.mktemp("check") / "export.jsonl"

    def checked(lines: list[bytes], public_key: str = "", heads: tuple[Head, ...] = ()) -> Finding:
        path.write_bytes(b"".join(lines))
        return verify(str(path), public_key, heads)

    return checked


def test_an_honest_export_of_everything_is_accepted(log: Path, check: Check) -> None:
    lines = export(log)
    found = check(lines, public(KEY))
    assert (found.fault, found.exit_code, found.seal) == (None, 0, "of the given key")
    assert (found.events, found.first_event, found.epochs) == (len(lines) - 2, 1, [1, 2, 5])
    with closing(sqlite3.connect(log)) as connection:
        assert connection.execute("SELECT count(*) FROM segments").fetchone()[0] > 1
        assert found.last_hash == connection.execute("SELECT head_hash FROM meta").fetchone()[0].hex()
    assert "TrainingProgressed" in {row(one)["type"] for one in lines[1:-1]}, "condensed ticks stand in it as events"


def test_spans_follow_one_another_and_are_accepted(log: Path, check: Check) -> None:
    lines = export(log)
    middle = row(lines[50])
    moment = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(middle['recorded_at'] // 10**6))}"
    moment += f".{middle['recorded_at'] % 10**6:06d}Z"
    first, second = export(log, until="50"), export(log, since=moment)
    assert (row(first[-2])["seq"], row(second[1])["seq"]) == (50, 50)
    assert export(log, until=moment)[1:-1] == first[1:-1]
    end = check(first, public(KEY))
    assert end.fault is None
    following = check(export(log, since="51"), public(KEY), (Head(0, 50, end.last_hash),))
    assert (following.fault, following.heads, following.first_event) == (None, ["event 50: the same"], 51)
    assert check(second).fault is None
    with pytest.raises(exporting.InvalidValue):
        export(log, since="9000")


def test_heads_that_were_kept_are_compared(log: Path, check: Check) -> None:
    lines = export(log, until="60")
    assert check(lines, heads=(head_at(lines, 12), head_at(lines, 60))).heads == [
        "event 12: the same",
        "event 60: the same",
    ]
    wrong = check(lines, heads=(head_at(lines, 12), Head(1, 30, "0" * 64))).fault
    assert wrong is not None
    assert (wrong.kind, wrong.first_event, wrong.last_event) == ("re-hashed", 13, 30)
    outside = check(lines, heads=(Head(5, 90, "0" * 64),))
    assert (outside.fault, outside.exit_code, outside.heads) == (None, 3, ["event 90: outside of this export"])
    rebuilt = check(lines, heads=(Head(1, 60, "0" * 64),))
    assert (rebuilt.exit_code, "later epoch" in rebuilt.heads[0]) == (3, True)


def test_a_migrated_store_of_an_earlier_release_is_exported_as_it_was_recorded(tmp_path: Path, check: Check) -> None:
    path = tmp_path / "btmd.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(next(OLD_STORES.glob("*.sql")).read_text())
        connection.execute("PRAGMA journal_mode=WAL")
    before = export(path)
    released = released_migrations()
    more = Migration(len(released) + 1, "remark", "ALTER TABLE events ADD COLUMN remark TEXT;")
    prepared = prepare_database(path, clock=lambda: NOW_US, new_id=lambda: "new", migrations=(*released, more))
    assert prepared.unmigrated is None
    assert export(path)[1:-1] == before[1:-1]
    assert check(export(path), public(KEY)).fault is None


def test_what_a_seal_shows_and_what_not(log: Path, check: Check) -> None:
    sealed, unsealed, foreign = export(log), export(log, key=None), export(log, key=OTHER_KEY)
    assert check(sealed).seal == "of the key in the export"
    assert public(KEY) in " ".join(told(check(sealed)))
    assert "Not shown: that it was not hashed anew" in " ".join(told(check(unsealed)))
    for lines in (unsealed, foreign):
        fault = check(lines, public(KEY)).fault
        assert fault is not None
        assert (fault.kind, fault.line) == ("not sealed", len(lines))
    closing_line = sealed[-1].replace(b'"head_epoch":5', b'"head_epoch":6')
    fault = check([*sealed[:-1], closing_line]).fault
    assert fault is not None
    assert fault.line == len(sealed)


def test_a_line_at_either_end_that_was_changed_is_named(log: Path, check: Check) -> None:
    lines = export(log)
    opening, end = row(lines[0]), row(lines[-1])
    for name, value in (
        ("made_by", "eve"), ("store_id", "x"), ("before_seq", 7), ("before_hash", "0" * 64), ("line", "x"),
    ):  # fmt: skip
        fault = check([tampering.line({**opening, name: value}), *lines[1:]]).fault
        assert fault is not None, name
        assert (fault.line, fault.kind) == (1, "changed"), name
    marks = [*end["marks"][:5], [6, "0" * 64], *end["marks"][6:]]
    for name, value in (
        ("events", 7), ("first_seq", 2), ("last_hash", "0" * 64), ("sha256", "0" * 64), ("marks", marks), ("seal", {}),
        ("head_hash", "0" * 64), ("store_id", "x"),
    ):  # fmt: skip
        fault = check([*lines[:-1], tampering.line({**end, name: value})]).fault
        assert fault is not None, name
        assert fault.line == len(lines), (name, fault)


@pytest.mark.timeout(0 if PROOF else 300)
def test_random_tamperings_are_found_with_their_place(log: Path, check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(2**32))
    print(f"SEED={seed}")
    drawn, found = random.Random(seed), Counter[str]()
    sources = [export(log), export(log, since="20", until="80"), export(log, key=None)]
    monkeypatch.setattr(exporting, "MOST_MARKS", 7)
    sources.append(export(log))
    for number in range(ROUNDS):
        lines = drawn.choice(sources)
        done = KINDS[number % len(KINDS)](list(lines), drawn)
        is_sealed = row(lines[-1])["seal"] is not None
        if done.what.endswith(" seal") and not is_sealed:
            # Without a seal and a later head nobody can tell; that is what it says then.
            said = " ".join(told(check(done.lines)))
            assert "Not shown: that it was not hashed anew" in said or "you have to know from elsewhere" in said
            done = tampering.changed(list(lines), drawn)
        with_key = is_sealed and (done.need_key or drawn.random() < 0.5)
        require_named(done, check(done.lines, public(KEY) if with_key else "", done.heads), lines, (seed, number))
        found[done.what.partition(":")[0]] += 1
    assert len(found) == len(KINDS)
    if PROOF:
        record_proof(found, seed, check, log)


def require_named(done: Tampered, finding: Finding, lines: list[bytes], where: tuple[int, int]) -> None:
    fault = finding.fault
    assert fault is not None, (*where, done.what)
    said = (*where, done.what, fault, done.at, done.event)
    assert fault.kind in done.kinds, said
    every = -(-(len(lines) - 2) // max(1, len(row(lines[-1])["marks"]) - 1)) if len(row(lines[-1])["marks"]) > 1 else 1
    if done.what == "re-hashed: the closing line as it was" and every > 1:
        # With marks further apart it is a stretch between two of them.
        assert fault.last_event - fault.first_event < every + 1, said
    else:
        assert fault.line in done.at, said
    if done.event is not None:
        assert fault.first_event <= done.event <= fault.last_event, said


def record_proof(found: Counter[str], seed: int, check: Check, log: Path) -> None:
    from benchmarks.results import Figure, Topic, record

    names = {"changed": "changed", "removed": "removed", "re-ordered": "re-ordered", "added": "added"}
    names["re-hashed"] = "hashed anew from an event on"
    started = time.perf_counter()
    events = check(export(log), public(KEY)).events
    spent_s = time.perf_counter() - started
    record(
        Topic(
            "Audit: exports verified by a stranger",
            "make proof-audit",
            [
                Figure("tamperings found with the right place", [sum(found.values())], target=f">= {ROUNDS}", digits=0),
                *(Figure(f"- {text}", [found[name]], digits=0) for name, text in names.items()),
                Figure("events exported and verified", [events / spent_s], "events/s", digits=0),
            ],
            packages=["cryptography"],
            notes=[
                f"Seed {seed}. Exports of a log of three epochs with condensed ticks: whole, in part, with and without"
                " a seal, with marks of all events and of every 15th.",
                "Events hashed anew together with the closing line are found by the seal, and their place by heads"
                " that were kept; the place that is named is then the stretch between two heads.",
            ],
        )
    )


def test_the_signature_is_checked_as_the_library_does() -> None:
    drawn = random.Random(5)
    for _ in range(6):
        key = Ed25519PrivateKey.from_private_bytes(drawn.randbytes(32))
        message = drawn.randbytes(drawn.randrange(200))
        number, signature = bytes.fromhex(public(key)), key.sign(message)
        assert verify_audit.ed25519_fits(number, message, signature)
        at = drawn.randrange(64)
        spoiled = signature[:at] + bytes([signature[at] ^ 1 << drawn.randrange(8)]) + signature[at + 1 :]
        assert not verify_audit.ed25519_fits(number, message, spoiled)
        assert not verify_audit.ed25519_fits(number, message + b"x", signature)
    assert not verify_audit.ed25519_fits(bytes(31), b"", bytes(64))


def test_it_runs_alone_with_nothing_but_the_standard_library(log: Path, tmp_path: Path) -> None:
    program = tmp_path / "verify_audit.py"
    shutil.copy(verify_audit.__file__, program)
    ast.parse(program.read_text(), feature_version=(3, 9))
    lines = export(log)

    def ran(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-I", "-S", str(program), "export.jsonl", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout + done.stderr

    (tmp_path / "export.jsonl").write_bytes(b"".join(lines))
    code, said = ran("--public-key", public(KEY), "--head", f"5:{len(lines) - 2}:{row(lines[-2])['hash']}")
    assert (code, said.splitlines()[0][:9]) == (0, "ACCEPTED:")
    (tmp_path / "export.jsonl").write_bytes(b"".join([*lines[:9], *lines[10:]]))
    code, said = ran("--json")
    fault = json.loads(said)["fault"]
    assert (code, fault["line"], fault["kind"], fault["first_event"]) == (1, 10, "removed", 9)
    (tmp_path / "export.jsonl").write_text("hello\n")
    assert ran()[0] == 2
    strange = {**row(lines[0]), "btmd_audit_export": "\x9b2J"}
    (tmp_path / "export.jsonl").write_bytes(verify_audit.written(strange) + b"\n")
    code, said = ran()
    assert (code, "\x9b" in said, "\\x9b2J" in said) == (2, False, True)
    forged = hashed({**row(lines[1]), "stream": "\x9b2J", "version": 7})
    (tmp_path / "export.jsonl").write_bytes(b"".join([lines[0], verify_audit.written(forged) + b"\n", *lines[2:]]))
    code, said = ran()
    assert (code, "\x9b" in said, "\\x9b2J goes from version" in said) == (1, False, True)
    (tmp_path / "export.jsonl").unlink()
    assert ran()[0] == 2
    assert ran("--head", "nonsense")[0] == 2
