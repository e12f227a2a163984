"""The pages for users, typed from top to bottom in one shell, with a real daemon."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.docs.place import DOCS, Place
from tests.docs.typed import headed
from tests.fixtures.daemon import PATIENCE_S
from tests.fixtures.short_folder import short_folder
from tests.fixtures.tiny_model import make_tiny_llama

ANSWER = "The library is open from nine to five, room {0} until {0}."
UNDERSTOOD = {
    # What trains, what goes on for ever, what is typed back from paper: understood, not done. Done elsewhere.
    "first-training.md": {
        "Install",
        "Start the daemon",
        "Is it good data",
        "What would happen",
        "Train",
        "Was it worth it",
        "Keep it",
    },
    "backups.md": {"With adapters and data", "The key on paper", "Is it whole, and does it work", "Going back"},
    "privacy.md": {"With no network at all", *([] if shutil.which("ss") else ["See that nothing is sent"])},
    "audit.md": {"Report on a training"},
    "disk.md": {"Deleting a training"},
    "notifications.md": {"On the desktop, spoken"},
    "when-it-goes-wrong.md": {
        "It is slow",
        "The memory is not enough",
        "It does not start",
        "It asks me something",
        "Nothing works, or something is odd",
    },
    "api.md": {"When it is refused", "What takes its time", "As it happens"},
}


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with short_folder() as home:
        place = Place(home)
        place.socket.parent.mkdir(parents=True, mode=0o700)
        make_tiny_llama(home / "models" / "SmolLM2-135M-Instruct")
        rows = [(f"When is room {n} of the library open?", ANSWER.format(n)) for n in range(24)]
        (home / "questions.csv").write_text("question,answer\n" + "".join(f'"{q}","{a}"\n' for q, a in rows))
        (home / "faq.jsonl").write_text("".join(f'{{"question": "{q}", "answer": "{a}"}}\n' for q, a in rows))
        (home / "stick").mkdir()
        place.start()
        yield place
        place.stop()


def nothing(place: Place) -> None:
    """The page begins at the beginning."""


def model_and_questions(place: Place) -> None:
    if not place.names("/models"):
        place.btmctl("models", "add", str(place.home / "models" / "SmolLM2-135M-Instruct"))
    if "questions" not in place.names("/datasets"):
        place.btmctl("datasets", "add", str(place.home / "questions.csv"), "--consent")


def a_key_for_the_seal(place: Place) -> None:
    if not place.client.get("/backups").ok():
        place.btmctl("backup", "create")


def it_is_planned(said: dict[str, str], place: Place) -> None:
    assert place.names("/models") == {"SmolLM2-135M-Instruct"}
    assert place.client.get("/datasets/questions").ok()["purpose"] == "our library"
    assert "room 2 of the library" in said["Your data"]


def they_are_backed_up(said: dict[str, str], place: Place) -> None:
    backups = place.client.get("/backups").ok()
    assert len([one for one in backups if "stick" in one["backup_path"]]) == 1
    assert "before the experiment" in said["By hand"]
    assert place.setting("backup.keep_daily") == 14


def nothing_is_sent(said: dict[str, str], place: Place) -> None:
    if "See that nothing is sent" in said:
        assert "btmd.sock" in said["See that nothing is sent"]
        assert "no connection to a network" in said["See that nothing is sent"]
    assert not re.search(r"^\S*\.(local|config)\S*$", said["Who can read it"], re.MULTILINE)
    assert "not in the log" in said["What the log says of your data"]
    assert "DatasetAdded" in said["What the log says of your data"]
    assert "open from nine" not in said["What the log says of your data"]


def programs_are_answered(said: dict[str, str], place: Place) -> None:
    assert '"status":"operational"' in said["The first request"]
    assert "forecast_texts" in said["A training"]
    assert (place.home / "openapi.json").read_text().startswith('{"openapi"')
    made = re.findall(r'"backup_id":"(\w+)"', said["Sending it twice"])
    assert len(made) == 2 == 1 + len(set(made))
    assert '"type":"ConsentGranted"' in said["Following what happens"]


def a_stranger_verifies_it(said: dict[str, str], place: Place) -> None:
    assert "to keep" in said["Keep a head"]
    assert (place.home / "verify_audit.py").exists()
    beginning = (place.home / "beginning.jsonl").read_text().splitlines()
    assert ('"line":"begin"' in beginning[0], '"line":"end"' in beginning[-1]) == (True, True)
    assert len(beginning) <= 5 + 2
    assert said["Verify it, without btmd"].count("ACCEPTED: ") == 2
    assert "sealed with the key that you gave" in said["Verify it, without btmd"]


def steps_are_shown(said: dict[str, str], place: Place) -> None:
    assert "operational" in said["Something was killed, or the machine went down"]
    assert "btmctl train MODEL DATASET --allow" in said["A command refuses, and I do not know why"]


def there_is_room(said: dict[str, str], place: Place) -> None:
    assert place.setting("disk.budget_gb") == 50
    assert "none (disk.budget_gb)" in said[""]


def somebody_is_told(said: dict[str, str], place: Place) -> None:
    assert place.setting("notify.command") == 'printf "%s\\n" "$BTMD_TEXT" | mail -s "$BTMD_TITLE" me'


Check = Callable[[dict[str, str], Place], None]
PAGES: dict[str, tuple[Callable[[Place], None], Check]] = {
    "first-training.md": (nothing, it_is_planned),
    "backups.md": (model_and_questions, they_are_backed_up),
    "privacy.md": (model_and_questions, nothing_is_sent),
    "audit.md": (a_key_for_the_seal, a_stranger_verifies_it),
    "when-it-goes-wrong.md": (nothing, steps_are_shown),
    "disk.md": (nothing, there_is_room),
    "notifications.md": (nothing, somebody_is_told),
    "api.md": (model_and_questions, programs_are_answered),
}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_does_what_it_says(page: str, place: Place) -> None:
    before, is_so = PAGES[page]
    before(place)
    typed = [(heading, block) for heading, block in headed(DOCS / page) if heading not in UNDERSTOOD[page]]
    script = place.home / f"{page}.sh"
    script.write_text("set -e\n" + "".join(f"echo; echo '## {heading}'\n{block}\n" for heading, block in typed))
    code = place.at_terminal(f"bash {script}")
    assert code == 0, place.said
    parts = re.split(r"^## (.*)$", place.said.replace("\r", ""), flags=re.MULTILINE)[1:]
    is_so(dict(zip(parts[::2], parts[1::2], strict=True)), place)


def test_the_python_on_the_page_runs(place: Place) -> None:
    [block] = re.findall(r"^```python\n(.*?)^```", (DOCS / "api.md").read_text(), re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", block], env=place.environment, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Presets for this machine: ")
    assert "job_not_found There is no job called 'no-such-job'." in done.stdout


def test_no_page_is_missing_from_the_index() -> None:
    index = (DOCS / "README.md").read_text()
    pages = {path.name for path in DOCS.glob("*.md")} - {"README.md"}
    assert [name for name in sorted(pages) if f"]({name})" not in index] == []


def test_every_link_leads_somewhere() -> None:
    broken = [
        f"{path.name}: {link}"
        for path in [DOCS.parent / "README.md", *DOCS.glob("*.md")]
        for link in re.findall(r"\]\(([^)#\s]+)", path.read_text())
        if not link.startswith("https://") and not (path.parent / link).exists()
    ]
    assert broken == []


def test_a_file_of_the_source_that_a_page_names_is_there() -> None:
    named = r"`((?:btmd|btmctl|benchmarks|presets|systemd|tests|docs)/[^`\s]*)`"
    missing = [
        f"{page.name}: {path}"
        for page in [DOCS.parent / "README.md", *DOCS.glob("*.md")]
        for path in re.findall(named, page.read_text())
        if not list(DOCS.parent.glob(path)) and path not in ("presets/KEY.toml", "btmctl/commands/thing.py")
    ]
    assert missing == []


def test_what_is_only_understood_is_there() -> None:
    for page, headings in UNDERSTOOD.items():
        assert headings <= {heading for heading, _ in headed(Path(DOCS / page), every=True)}
