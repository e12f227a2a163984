"""btmctl presets against a real daemon: own presets made, changed, given away, taken back."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from btmctl.__main__ import main
from btmctl.session import Session
from tests.fixtures.daemon import ThreadedDaemon, config_of, rows
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_families import make_roberta

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    with ThreadedDaemon(config_of(folder)) as daemon:

        def run(*arguments: str) -> tuple[int, str, str]:
            code = main([*arguments, "--socket", str(daemon.config.socket_path)])
            captured = capsys.readouterr()
            return code, captured.out, captured.err

        assert run("presets", "create", "mine", "--from", "quick_test", "--set", "num_epochs=3")[0] == 0
        yield run


def shown(run: Run, key: str = "mine") -> dict[str, object]:
    return dict(json.loads(run("presets", "show", key, "--json")[1]))


def test_a_preset_is_made_listed_deleted_and_brought_back(run: Run) -> None:
    assert shown(run)["num_epochs"] == 3
    code, out, _ = run("presets", "list", "--all")
    assert code == 0
    assert [line.split()[:3] for line in out.splitlines() if line.startswith("mine")] == [["mine", "Mine", "own"]]
    code, _, err = run("presets", "delete", "mine")
    assert (code, "--yes" in err) == (6, True)
    assert run("presets", "delete", "mine", "--why", "old", "--yes")[0] == 0
    assert run("presets", "show", "mine")[0] == 5
    assert run("presets", "undo", "mine")[0] == 0
    assert shown(run)["num_epochs"] == 3
    assert "is not there any more" in run("presets", "undo", "mine")[2]
    assert run("presets", "undo", "mine")[0] == 0
    out = run("presets", "history", "mine")[1]
    assert [line.split()[3] for line in out.splitlines()] == ["created", "deleted", "created", "deleted", "created"]
    assert '"old"' in out


def test_a_preset_goes_out_as_a_file_and_comes_in_again(run: Run, tmp_path: Path) -> None:
    before, file = shown(run), tmp_path / "given.toml"
    assert run("presets", "export", "mine", "--out", str(file))[0] == 0
    assert run("presets", "export", "mine", "--out", str(file))[0] == 6
    assert run("presets", "export", "mine")[1] == file.read_text()
    code, _, err = run("presets", "import", str(file))
    assert (code, "--yes" in err) == (6, True)
    file.write_text(file.read_text().replace("num_epochs = 3", "num_epochs = 5"))
    assert "num_epochs is now 5" in run("presets", "import", str(file), "--yes")[2]
    file.write_text(file.read_text().replace('key = "mine"', 'key = "other"').replace('"Mine"', '"Other"'))
    assert run("presets", "import", str(file))[0] == 0
    after = shown(run, "other")
    differ = {name for name in before if before[name] != after[name]}
    assert differ == {"key", "name", "num_epochs", "made_from"}


def test_an_import_writes_nothing_outside(run: Run, folder: Path, tmp_path: Path) -> None:
    good = run("presets", "export", "quick_test")[1]
    file = tmp_path / "given.toml"
    for key in ("../evil", f"{tmp_path}/evil", "..", "a/../../evil"):
        file.write_text(good.replace('"quick_test"', f'"{key}"'))
        code, _, err = run("presets", "import", str(file), "--yes")
        assert (code, "line 1" in err) == (2, True)
        assert run("presets", "create", key, "--from", "quick_test")[0] == 2
    assert [*folder.rglob("*evil*"), *tmp_path.rglob("*evil*")] == []


def test_an_import_waits_for_no_pipe_and_asks_in_whole_sentences(run: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    code, _, err = run("presets", "import", str(tmp_path / "pipe"))
    assert (code, "no regular file" in err) == (2, True)
    file = tmp_path / "given.toml"
    file.write_text("\ufeff" + run("presets", "export", "mine")[1])
    code, _, err = run("presets", "import", str(file))
    assert (code, "already. Put this one" in err) == (6, True)
    assert run("presets", "import", str(file), "--yes")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "code", "helps"),
    [
        (("presets", "create", "quick_test", "--from", "quick_test"), 6, "presets create KEY --from quick_test"),
        (("presets", "create", "mine", "--from", "quick_test"), 6, "btmctl presets edit mine"),
        (("presets", "create", "more", "--from", "qick_test"), 5, "Did you mean quick_test?"),
        (("presets", "create", "more", "--from", "quick_test", "--set", "num_epoch=2"), 2, "did you mean num_epochs"),
        (("presets", "delete", "quick_test", "--yes"), 6, "presets create KEY --from quick_test"),
        (("presets", "delete", "none", "--yes"), 5, "btmctl presets list --all"),
        (("presets", "history", "none"), 5, "btmctl presets list --all"),
        (("presets", "undo", "mine", "99999"), 5, "btmctl presets history mine"),
        (("presets", "import", "/no/such/file"), 2, "btmctl presets export"),
        (
            ("presets", "create", "more", "--from", "quick_test", "--set", "learning_rate=nan"),
            2,
            "learning_rate cannot",
        ),
        (("presets", "create", "more", "--from", "quick_test", "--set", "learning_rate=1e999"), 2, "finite number"),
        (("presets", "delete", "quick_test"), 6, "presets create KEY --from quick_test"),
        (("config", "diff", "--from", "2001-01-01"), 2, "Give 0 in place of the time"),
    ],
)
def test_refusals_say_what_helps(run: Run, arguments: tuple[str, ...], code: int, helps: str) -> None:
    found, out, err = run(*arguments)
    assert (found, out) == (code, "")
    assert helps in err


def test_a_preset_is_edited_and_a_mistake_mended(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("presets", "edit", "mine")[0] == 6
    monkeypatch.setattr(Session, "can_ask", True)
    monkeypatch.setattr(Session, "ask", lambda self, question: "y")
    script = tmp_path / "editor"
    wrong, right = "s/epochs = 3/epochs = 0/", "s/epochs = 0/epochs = 4/"
    script.write_text(f'#!/bin/sh\ngrep -q "epochs = 3" "$1" && sed -i "{wrong}" "$1" || sed -i "{right}" "$1"\n')
    script.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(script))
    code, _, err = run("presets", "edit", "mine", "--why", "by hand")
    assert (code, "num_epochs" in err, "num_epochs is now 4" in err) == (0, True, True)
    assert '"by hand"' in run("presets", "history", "mine")[1].splitlines()[0]
    assert run("presets", "edit", "quick_test")[0] == 6


def test_each_preset_is_judged_for_this_machine_and_a_model_by_name_is_a_guess(run: Run) -> None:
    code, out, _ = run("presets", "recommend")
    assert code == 0
    assert "small_gpu" in out
    assert "Fits" in out or "Too large" in out
    code, out, _ = run("presets", "recommend", "--model", "org/tiny-coder-135m", "--json")
    assert code == 0
    told = json.loads(out)
    assert told["best"]["key"] == "code_assistant"
    assert told["best"]["verdict"].startswith("A guess")
    assert len(told["presets"]) == 9


def test_an_encoder_gets_its_guess_and_its_training_is_refused(run: Run, folder: Path, tmp_path: Path) -> None:
    encoder = str(make_roberta(folder / "encoder"))
    code, out, _ = run("presets", "recommend", "--model", "org/roberta-base")
    assert code == 0
    assert "cannot be trained here" in out
    assert "on this machine" not in out.splitlines()[-1]
    code, out, _ = run("presets", "recommend", "--model", encoder, "--json")
    assert code == 0
    best = json.loads(out)["best"]
    assert best["trainable"] is False
    assert "is an encoder" in best["verdict"]
    data = tmp_path / "facts.jsonl"
    data.write_bytes(rows())
    for command in (("models", "add", encoder), ("train", encoder, str(data), "--consent"), ("plan", encoder, "facts")):
        code, _, err = run(*command)
        assert code == 2
        assert "is an encoder: it reads text but cannot write any" in " ".join(err.split())
        assert "ForCausalLM" in err
    assert "encoder" not in run("models", "list")[1]
