"""Models and datasets named on the command line: added first when they are paths, never without consent."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from btmctl.output import Output
from btmctl.words import rfc3339
from tests.btmctl.conftest import Btmctl
from tests.btmctl.small_server import Request, SmallServer, chunked, reply, rows_file

FACTS = {
    "format": "jsonl",
    "encoding": "utf-8",
    "layout": "question_answer",
    "columns_used": ["question", "answer"],
    "rows_kept": 3,
    "rows_held_out": 0,
    "has_split": False,
    "duplicates": 0,
    "rows_empty": 1,
    "empty_lines": [5],
    "rows_broken": 7,
    "broken": [{"line": line, "reason": "not JSON"} for line in range(10, 17)],
}
DATASET = {
    "dataset_id": "rows",
    "name": "rows",
    "source_name": "rows.jsonl",
    "version_id": "0a1b2c3d4e5f6071",
    "size_bytes": 1234,
    "rows": 3,
    "added_at": "2026-11-22T14:00:00Z",
    "removed_at": None,
    "scopes": ["train"],
    "purpose": "tests",
    "made": "add",
    "stored_bytes": 600,
    "source_sha256": "0" * 64,
    "source_path": "",
    "source_changed_at": None,
    "mapping": {},
    "facts": FACTS,
}
MODEL = {"model_id": "tiny", "name": "tiny", "source": "/m", "facts": {}}
NOT_THERE = {"title": "There is no such thing", "detail": "There is no such one.", "code": "not_found"}


class Contents:
    """A content store that keeps what arrives, as the daemon does."""

    def __init__(self, server: SmallServer, sha256: str, *, cut_after_bytes: int | None = None) -> None:
        self.stored = b""
        self.complete = False
        self._cut_after_bytes = cut_after_bytes
        server.does("HEAD", f"/contents/{sha256}", self.head)
        server.does("PUT", f"/contents/{sha256}", self.put)

    def head(self, request: Request) -> None:
        handler = request.handler
        handler.send_response(200 if self.complete else 404)
        if not self.complete:
            handler.send_header("Upload-Offset", str(len(self.stored)))
        handler.end_headers()

    def put(self, request: Request) -> None:
        assert int(request.query["offset"][0]) == len(self.stored)
        if self._cut_after_bytes is not None:
            self.stored += request.handler.rfile.read(self._cut_after_bytes)
            self._cut_after_bytes = None
            return
        self.stored += request.body()
        self.complete = True
        reply(request, {})


def added(server: SmallServer, bodies: list[object], contents: Contents | None = None) -> None:
    """Takes additions; where there are ``contents``, as soon as they are here."""

    def route(request: Request) -> None:
        if contents is not None and not contents.complete:
            request.body()
            reply(request, {"title": "Missing", "detail": "Not uploaded.", "code": "file_not_found"}, 404)
            return
        bodies.append(request.json())
        lines = [b'{"progress": 0.5, "text": "Reading rows"}\n', json.dumps({"result": DATASET}).encode() + b"\n"]
        chunked(request, lines, media_type="application/x-ndjson")

    server.does("POST", "/datasets", route)


def test_a_file_is_sent_and_registered(btmctl: Btmctl, server: SmallServer, tmp_path: Path) -> None:
    path = rows_file(tmp_path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    contents, bodies = Contents(server, sha256), list[object]()
    added(server, bodies, contents)
    code, out, err = btmctl(
        "datasets",
        "add",
        str(path),
        "--consent",
        "--purpose",
        "tests",
        "--name",
        "rows",
        "--map",
        "prompt=question",
        "--json",
    )
    assert (code, err) == (0, "")
    assert json.loads(out) == DATASET
    assert contents.stored == path.read_bytes()
    assert bodies == [
        {
            "content": sha256, "file_name": "rows.jsonl", "consent": True, "name": "rows", "purpose": "tests",
            "mapping": {"prompt": "question"}, "source_path": str(path),
            "source_changed_at": rfc3339(path.stat().st_mtime_ns // 1000),
        }
    ]  # fmt: skip


def test_what_the_daemon_has_is_not_sent_again(btmctl: Btmctl, server: SmallServer, tmp_path: Path) -> None:
    path = rows_file(tmp_path)
    contents = Contents(server, hashlib.sha256(path.read_bytes()).hexdigest())
    contents.complete = True
    added(server, [], contents)
    assert btmctl("datasets", "add", str(path), "--consent")[0] == 0
    assert "PUT" not in {method for method, _ in server.seen}


def test_an_upload_that_was_cut_off_goes_on_where_it_stopped(
    btmctl: Btmctl, server: SmallServer, tmp_path: Path
) -> None:
    path = rows_file(tmp_path, rows=100_000)
    content = path.read_bytes()
    contents = Contents(server, hashlib.sha256(content).hexdigest(), cut_after_bytes=1_000_000)
    added(server, [], contents)
    assert btmctl("datasets", "add", str(path), "--consent")[0] == 0
    assert contents.stored == content
    assert [target.rpartition("=")[2] for method, target in server.seen if method == "PUT"] == ["0", "1000000"]


def test_without_consent_and_without_a_terminal_nothing_is_sent(
    btmctl: Btmctl, server: SmallServer, tmp_path: Path
) -> None:
    code, _, err = btmctl("datasets", "add", str(rows_file(tmp_path)))
    assert code == 6
    assert "--consent" in err
    assert server.seen == []


@pytest.mark.parametrize(
    ("path", "exit_code", "says"),
    [("missing.jsonl", 5, "There is no file"), ("/dev/null", 5, "not an ordinary file")],
)
def test_a_path_that_is_no_file(btmctl: Btmctl, path: str, exit_code: int, says: str) -> None:
    code, _, err = btmctl("datasets", "add", path, "--consent")
    assert code == exit_code
    assert says in err


def test_paths_given_to_train_are_added_first(btmctl: Btmctl, server: SmallServer, tmp_path: Path) -> None:
    path = rows_file(tmp_path)
    (tmp_path / "tiny").mkdir()
    Contents(server, hashlib.sha256(path.read_bytes()).hexdigest())
    added(server, [])
    models: list[object] = []
    starts: list[object] = []

    def add_model(request: Request) -> None:
        models.append(request.json())
        chunked(request, [json.dumps({"result": MODEL}).encode() + b"\n"], media_type="application/x-ndjson")

    def start(request: Request) -> None:
        starts.append(request.json())
        reply(request, {"job_id": "abc", "message": "Training has been queued."})

    server.does("POST", "/models", add_model)
    server.does("POST", "/start", start)
    code, out, err = btmctl(
        "train", str(tmp_path / "tiny"), str(path), "--consent", "--preset", "quick_test", "--set", "num_epochs=2",
        "--set", "learning_rate=1e-3", "--set", "packing=false", "--allow", "lora, shorter", "--name", "a first try",
    )  # fmt: skip
    assert code == 0, err
    assert out == "abc\n"
    assert models == [{"path": str(tmp_path / "tiny")}]
    assert starts == [
        {
            "model_id": "tiny",
            "dataset_id": "rows",
            "preset_name": "quick_test",
            "overrides": {"num_epochs": 2, "learning_rate": 0.001, "packing": False},
            "allow": ["lora", "shorter"],
            "name": "a first try",
            "consent": True,
        }
    ]


def test_ids_given_to_train_are_used_as_they_are(btmctl: Btmctl, server: SmallServer) -> None:
    server.answers("GET", "/models/org/tiny", {**MODEL, "model_id": "org/tiny"})
    server.answers("GET", "/datasets/rows", DATASET)
    server.answers("POST", "/start", {"job_id": "abc", "message": "queued"})
    code, out, _ = btmctl("train", "org/tiny", "rows", "--json")
    assert (code, json.loads(out)["job_id"]) == (0, "abc")


def test_a_dataset_that_is_neither_file_nor_known_is_told_as_both(btmctl: Btmctl, server: SmallServer) -> None:
    server.answers("GET", "/models/tiny", MODEL)
    server.answers("GET", "/datasets/rows.jsonl", NOT_THERE, 404)
    code, _, err = btmctl("train", "tiny", "rows.jsonl", "--consent")
    assert code == 5
    assert "There is no file rows.jsonl." in err
    assert "there is no such one" in err


def test_a_dry_run_shows_each_value_with_its_reason_and_starts_nothing(btmctl: Btmctl, server: SmallServer) -> None:
    plan: dict[str, dict[str, Any]] = {
        "plan": {
            "values": {"precision": {"value": "bf16", "source": "hardware", "reason": "The processor multiplies it."}},
            "notes": ["Three rows are left out."],
            "total_steps": 12,
            "train_rows": 1073,
            "held_out_rows": 8,
            "rows_counted": False,
        }
    }
    bodies: list[dict[str, object]] = []

    def start(request: Request) -> None:
        bodies.append(request.json())
        reply(request, plan)

    server.answers("GET", "/models/tiny", MODEL)
    server.answers("GET", "/datasets/rows", DATASET)
    server.does("POST", "/start", start)
    code, out, _ = btmctl("train", "tiny", "rows", "--dry-run")
    assert code == 0
    assert bodies[0]["dry_run"] is True
    for text in (
        "precision",
        "bf16",
        "hardware",
        "The processor multiplies it.",
        "Three rows are left out.",
        "about 12",
    ):
        assert text in out
    assert "about 1,073 to learn from, about 8 held out" in out
    plan["plan"]["rows_counted"] = True
    assert "about" not in btmctl("train", "tiny", "rows", "--dry-run")[1]


def test_settings_are_sent_as_typed(btmctl: Btmctl, server: SmallServer) -> None:
    bodies: list[object] = []

    def change(request: Request) -> None:
        bodies.append(request.json())
        setting = {"key": "training.seed", "value": 7, "is_default": False, "needs_restart": False}
        reply(request, {"number": 3, "changed": ["training.seed"], "settings": [setting]})

    server.does("PATCH", "/settings", change)
    assert btmctl("config", "set", "training.seed=7", "--why", "a test")[0] == 0
    assert bodies == [{"changes": {"training.seed": "7"}, "why": "a test"}]


def test_broken_rows_are_shown_with_their_lines(btmctl: Btmctl, server: SmallServer) -> None:
    server.answers("GET", "/datasets/rows", DATASET)
    code, out, _ = btmctl("datasets", "show", "rows")
    assert code == 0
    assert "line 10: not JSON" in out
    assert "and 2 more" in out
    assert "line 5" in out


def test_a_file_that_changed_is_not_silently_used(btmctl: Btmctl, server: SmallServer, tmp_path: Path) -> None:
    path = rows_file(tmp_path)
    Contents(server, hashlib.sha256(path.read_bytes()).hexdigest())
    problem = {
        "title": "Not possible",
        "detail": "Other contents.",
        "code": "conflict",
        "hint": "--name",
        "status": 409,
    }
    server.answers("GET", "/models/tiny", MODEL)
    server.does(
        "POST",
        "/datasets",
        lambda request: chunked(request, [json.dumps({"error": problem}).encode()], media_type="application/x-ndjson"),
    )
    code, _, err = btmctl("train", "tiny", str(path), "--consent")
    assert code == 6
    assert "btmctl datasets update" in err


def test_a_changed_file_is_told_where_its_dataset_is_used(btmctl: Btmctl, server: SmallServer, tmp_path: Path) -> None:
    path = rows_file(tmp_path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    dataset = {**DATASET, "source_path": str(path), "source_sha256": sha256, "source_changed_at": rfc3339(1)}
    server.answers("GET", "/models/tiny", MODEL)
    server.answers("GET", "/datasets/rows", dataset)
    server.answers("POST", "/start", {"job_id": "abc", "message": "queued"})
    # Only its time is another one.
    assert "has changed" not in btmctl("train", "tiny", "rows")[2]
    path.write_bytes(path.read_bytes() + b"{}\n")
    code, _, err = btmctl("train", "tiny", "rows")
    assert code == 0
    assert f"{path} has changed since it was read" in err
    assert "btmctl datasets update rows" in err
    path.unlink()
    assert "has changed" not in btmctl("train", "tiny", "rows")[2]


def test_an_update_shows_the_difference(btmctl: Btmctl, server: SmallServer, tmp_path: Path) -> None:
    path = rows_file(tmp_path)
    before = {**DATASET, "source_path": str(path), "versions": [{"made": "add"}]}
    server.answers("GET", "/datasets/rows", before)
    bodies: list[dict[str, object]] = []

    def update(request: Request) -> None:
        bodies.append(request.json())
        changes = {"rows_added": 1, "rows_removed": 0, "rows_unchanged": 2, "added_lines": [3], "removed_lines": []}
        done = {"updated": True, "changes": changes, "dataset": {**DATASET, "version_id": "1b"}}
        chunked(request, [json.dumps({"result": done}).encode()], media_type="application/x-ndjson")

    server.does("POST", "/datasets/rows/versions", update)
    code, out, err = btmctl("datasets", "update", "rows")
    assert (code, bodies[0]["source_path"]) == (0, str(path))
    assert "version 1b" in err
    assert "1 (now at line 3)" in out
    assert "line 10: not JSON" in out
    assert "The version before" not in err
    done_since = [{"made": made} for made in ("anonymise", "clean", "update", "clean", "add")]
    server.answers("GET", "/datasets/rows", {**before, "versions": done_since})
    _, _, err = btmctl("datasets", "update", "rows")
    assert "The version before was cleaned" in err
    assert "btmctl datasets clean rows --drop KINDS" in err
    assert err.count("The version before was anonymised") == err.count("The version before was cleaned") == 1


def test_versions_tell_what_is_different_in_words_and_whole_numbers(
    btmctl: Btmctl, server: SmallServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = {"added_at": "2026-11-22T14:00:00Z", "parent": "0a1b2c3d4e5f6071", "source_path": "/data/rows.csv"}
    dropped = {"duplicates": {"count": 8, "lines": [5]}, "cut_off_answers": {"count": 1, "lines": [9]}}
    made = [
        ("update", {"rows_added": 1066, "rows_removed": 2, "rows_unchanged": 0}, "1,066 added, 2 removed"),
        ("anonymise", {"rows_changed": 1133, "kinds": {}}, "1,133 changed"),
        ("clean", {"rows_before": 1141, "rows": 1132, "dropped": dropped}, "duplicates dropped: 8, cut off answers"),
        ("add", {}, "added from rows.csv"),
    ]
    found = [
        {**shared, "version_id": f"{at}", "made": kind, "rows": 1132, "changes": changes}
        for at, (kind, changes, _) in enumerate(made)
    ]
    server.answers("GET", "/datasets/rows/versions", found)
    _, out, _ = btmctl("datasets", "versions", "rows")
    assert all(words in out for _, _, words in made), out
    assert "1,132" in out
    # A terminal as wide as most still shows a line for each, not a block.
    monkeypatch.setattr(Output, "width", 80)
    _, out, _ = btmctl("datasets", "versions", "rows")
    assert [line[:1] for line in out.splitlines() if line[:1] != " "] == ["v", "0", "1", "2", "3"]
    assert max(map(len, out.splitlines())) <= 80


def test_a_dataset_put_together_from_messages_says_of_how_many(btmctl: Btmctl, server: SmallServer) -> None:
    facts = {
        **FACTS,
        "layout": "grouped_messages",
        "rows_kept": 1141,
        "turns_total": 3000,
        "rows_broken": 0,
        "broken": [],
    }
    server.answers("GET", "/datasets/rows", {**DATASET, "source_path": "/data/rows.csv", "facts": facts})
    _, out, _ = btmctl("datasets", "show", "rows")
    assert "1,141, of 3,000 messages" in out
    names = [line.split("  ")[0] for line in out.splitlines()]
    assert len(names) == len(set(names))
    server.answers("GET", "/datasets/rows", {**DATASET, "facts": {**FACTS, "format": "parquet"}})
    assert "parquet, utf-8" not in btmctl("datasets", "show", "rows")[1]


def test_an_update_of_what_came_from_nowhere_needs_a_path(btmctl: Btmctl, server: SmallServer) -> None:
    server.answers("GET", "/datasets/rows", DATASET)
    code, _, err = btmctl("datasets", "update", "rows")
    assert code == 2
    assert "btmctl datasets update rows PATH" in err


def test_erasing_asks_first(btmctl: Btmctl, server: SmallServer) -> None:
    server.answers("GET", "/datasets/rows", DATASET)
    server.answers("POST", "/erasures/rows", {"message": "It is erased.", "jobs": [], "unreached": []})
    code, _, err = btmctl("datasets", "erase", "rows")
    assert (code, "Erase the dataset rows, 3 rows?" in err) == (6, True)
    assert "POST" not in {method for method, _ in server.seen}
    code, _, err = btmctl("datasets", "erase", "rows", "--yes")
    assert (code, "It is erased." in err) == (0, True)


def test_nobody_is_asked_whether_to_erase_what_is_not_there(btmctl: Btmctl, server: SmallServer) -> None:
    server.answers("GET", "/datasets/nosuch", NOT_THERE, 404)
    code, _, err = btmctl("datasets", "erase", "nosuch")
    assert (code, "There is no such one." in err, "Erase" in err) == (5, True, False)


def test_what_was_removed_is_listed_when_asked_for(
    btmctl: Btmctl, server: SmallServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, list[str]]] = []

    def listed(request: Request) -> None:
        asked.append(request.query)
        reply(request, [DATASET, {**DATASET, "dataset_id": "gone", "removed_at": "2026-11-23T14:00:00.000000Z"}])

    server.does("GET", "/datasets", listed)
    monkeypatch.setattr(Output, "width", 80)
    _, out, err = btmctl("datasets", "list", "--all")
    assert [one["removed"] for one in asked] == [["true"]]
    assert "removed 2026-11-23" in next(line for line in out.splitlines() if line.startswith("gone"))
    assert "btmctl datasets erase D" in err


def test_what_was_erased_is_listed_with_what_is_out_of_reach(
    btmctl: Btmctl, server: SmallServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    erased = {
        "number": 9, "dataset_id": "gone", "name": "gone", "by_uid": 0, "at": "2026-11-23T14:00:00.000000Z",
        "versions": ["v1"], "jobs": ["k3q7", "p5xw"], "done": True, "unreached": [],
    }  # fmt: skip
    kept = {**erased, "number": 7, "dataset_id": "kept", "jobs": [], "unreached": ["/media/stick"]}
    server.answers("GET", "/erasures", [erased, kept])
    monkeypatch.setattr(Output, "width", 80)
    code, out, err = btmctl("datasets", "list", "--erased")
    assert code == 0
    gone, still = out.splitlines()[1:]
    assert (gone.split()[0], gone.split()[-3:]) == ("gone", ["yes", "k3q7,", "p5xw"])
    assert still.endswith("not yet")
    assert "Out of reach: /media/stick." in err
    assert json.loads(btmctl("datasets", "list", "--erased", "--json")[1]) == [erased, kept]
    server.answers("GET", "/erasures", [])
    assert "No dataset was erased." in btmctl("datasets", "list", "--erased")[2]
    assert btmctl("datasets", "list", "--erased", "--all")[0] == 2


def test_an_addition_names_what_to_do_next(btmctl: Btmctl, server: SmallServer, tmp_path: Path) -> None:
    path = rows_file(tmp_path)
    added(server, [])
    _, out, err = btmctl("datasets", "add", str(path), "--consent")
    for command in ("datasets check rows", "datasets preview rows", "train MODEL rows"):
        assert f"btmctl {command}" in err
    assert "questions and answers (question, answer)" in out


def test_removing_asks_first(btmctl: Btmctl, server: SmallServer) -> None:
    server.answers("GET", "/datasets/rows", DATASET)
    server.answers("DELETE", "/datasets/rows", {"message": "It is removed.", "results": []})
    assert btmctl("datasets", "remove", "rows")[0] == 6
    assert "DELETE" not in {method for method, _ in server.seen}
    code, _, err = btmctl("datasets", "remove", "rows", "--yes")
    assert code == 0
    assert "It is removed." in err


@pytest.mark.parametrize(("verdict", "exit_code"), [("tampered", 9), ("damaged", 7)])
def test_a_log_that_does_not_fit_has_its_exit_code(
    btmctl: Btmctl, server: SmallServer, verdict: str, exit_code: int
) -> None:
    found = {"verdict": verdict, "checked": 4, "first_bad": 5, "reason": "its content does not fit its hash"}
    server.answers("GET", "/health", {"store_id": "a store"})
    server.answers("GET", "/audit/verification", {**found, "compared": []})
    code, out, err = btmctl("audit", "verify")
    assert code == exit_code
    assert "event 5" in out
    assert "event 5" in err


def test_standard_input_is_taken_by_the_name_of_its_file_and_a_pipe_is_refused_in_words(
    btmctl: Btmctl, server: SmallServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = os.dup(0)
    path, bodies = rows_file(tmp_path), list[dict[str, Any]]()
    server.does("POST", "/datasets", lambda request: (bodies.append(request.json()), reply(request, DATASET))[1])
    try:
        with path.open() as file:
            os.dup2(file.fileno(), 0)
            assert [btmctl("datasets", "add", given, "--consent")[0] for given in ("-", "/dev/stdin")] == [0, 0]
        reader, writer = os.pipe()
        os.dup2(reader, 0)
        said = [btmctl("datasets", "add", given, "--consent") for given in ("-", "/dev/stdin")]
        os.close(reader)
        os.close(writer)
    finally:
        os.dup2(kept, 0)
        os.close(kept)
    assert [(one["file_name"], one["source_path"]) for one in bodies] == [("rows.jsonl", str(path))] * 2
    for code, _, err in said:
        assert (code, "Standard input is not an ordinary file." in err, "JSON" in err) == (5, True, False)
        assert "COMMAND > data.csv" in err
