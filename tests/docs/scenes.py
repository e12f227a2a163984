"""What there is when a command of a page is typed, and what stands there for a name that is somebody's own."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import btmd.daemon
from btmd.config import Config
from tests.docs.place import Place
from tests.fixtures.daemon import QUICK, ThreadedDaemon
from tests.fixtures.tiny_gguf import make_tiny_gguf
from tests.fixtures.tiny_model import make_tiny_llama

MODEL = "SmolLM2-135M-Instruct"
OTHER_USER, OTHER_GROUP = "nobody", "nogroup"
PATIENCE_S = 240.0
TWO_DAYS_US = 2 * 24 * 3600 * 1_000_000
ENDED = ("completed", "failed", "cancelled")
_SHORT = {"max_steps": 8, "num_epochs": 1, "eval_every": 4, "save_every": 4}
_LONG = {"num_epochs": 1000, "max_steps": 20_000, "eval_every": 5000, "save_every": 20, "sample_answers": 0}


class Scene(Place):
    """A person's home as the pages assume it: a daemon with models, data, two trainings, a backup."""

    def __init__(self, home: Path, hub: str) -> None:
        super().__init__(home)
        self.long: set[str] = set()
        self.kept = home
        self.on_stick = ""
        """The newest backup there."""
        self.environment |= {
            "HF_ENDPOINT": hub, "DESTDIR": str(home / "package"), "EDITOR": str(home / "editor"), "USER": "root",
            "TERM": "xterm", "COLUMNS": "160",
        }  # fmt: skip

    def reply(self, question: str) -> str:
        if question.endswith("[y/N] "):
            return "y"
        if question.endswith("> "):
            self._asked = not getattr(self, "_asked", False)
            return "When is room 3 of the library open?" if self._asked else ""
        return "" if question.startswith("Enter ") else self.typed

    def furnish(self) -> None:
        """What is there before the first page is opened."""
        home = self.home
        # Those who are granted a role on the pages could reach the daemon.
        self.socket.parent.mkdir(parents=True, mode=0o711)
        home.chmod(0o711)
        for seed, name in enumerate((MODEL, "SmolLM2", "smol")):
            make_tiny_llama(home / "known" / name, seed=seed)
        for path in ("models/SmolLM2-135M", f"models/{MODEL}", "old/model", "hf", "stick", "textfile", "presets"):
            (home / path).mkdir(parents=True)
        make_tiny_llama(home / "models" / "SmolLM2-135M", seed=8)
        rows = [
            (f"When is room {n} of the library open?", f"It is open from nine to {n}, room {n}.") for n in range(40)
        ]
        lines = "".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in rows)
        for name in ("questions.jsonl", "faq.jsonl", "newer.jsonl"):
            (home / name).write_text(lines)
        (home / "questions.csv").write_text("question,answer\n" + "".join(f'"{q}","{a}"\n' for q, a in rows))
        editor = home / "editor"
        editor.write_text(
            '#!/bin/sh\nsed -i -E "s/^num_epochs = .*/num_epochs = 2/; s/^(# )?seed = .*/seed = 11/" "$1"\n'
        )
        editor.chmod(0o755)
        (home / ".venv" / "bin").mkdir(parents=True)
        for program in ("activate", "btmctl", "btmd", "python"):
            (home / ".venv" / "bin" / program).symlink_to(Path(sys.executable).parent / program)
        self._begin_two_days_ago()
        self.start()
        for name in (MODEL, "SmolLM2", "smol"):
            self.client.post("/models", {"path": str(home / "known" / name)}).ok()
        self.dataset("questions")
        self.client.post("/backup", {}).ok()
        self.ended(self.train(**_SHORT))
        self.ended(self.train(**_SHORT))
        self.stop()

    def _begin_two_days_ago(self) -> None:
        """The pages ask what was yesterday."""
        now_us = btmd.daemon.clock_us
        config = Config(
            state_dir=self.state,
            config_dir=self.config,
            socket_path=self.socket,
            log_level="warning",
            device_locks_dir=self.home,
        )
        with patch.object(btmd.daemon, "clock_us", lambda: now_us() - TWO_DAYS_US), ThreadedDaemon(config) as daemon:
            daemon.client.patch("/settings", {"changes": QUICK}).ok()

    # What there is

    def jobs(self) -> list[dict[str, Any]]:
        return list(self.client.get("/jobs").ok())

    def newest(self) -> dict[str, Any]:
        return self.jobs()[0]

    def train(self, **overrides: Any) -> str:
        body = {"model_id": MODEL, "dataset_id": "questions", "preset_name": "quick_test", "overrides": overrides}
        return str(self.client.post("/start", body).ok()["job_id"])

    def until(self, wanted: Callable[[], Any]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not wanted():
            assert time.monotonic() < end, [(job["job_id"], job["state"]) for job in self.jobs()]
            time.sleep(0.1)

    def ended(self, job_id: str) -> None:
        self.until(lambda: self.client.job(job_id)["state"] in ENDED)

    def dataset(self, name: str) -> None:
        """The file of that name is known, and where it lies."""
        if name in self.names("/datasets"):
            return
        path = self.home / f"{name}.jsonl"
        body = {
            "content": self.client.upload(path.read_bytes()),
            "file_name": path.name,
            "source_path": str(path),
            "consent": True,
            "scopes": ["train", "export", "backup"],
        }
        # One that was erased right before is being erased for a moment.
        self.until(lambda: self.client.post("/datasets", body).status == 200)

    def model(self, name: str) -> None:
        if name not in self.names("/models"):
            self.client.post("/models", {"path": str(self.home / "known" / name)}).ok()

    def settled(self) -> None:
        """Short trainings have ended by themselves, and long ones are cancelled."""
        for job in self.jobs():
            if job["job_id"] in self.long and job["state"] not in ENDED:
                self.client.post(f"/jobs/{job['job_id']}/cancel")
            elif job["state"] == "queued":
                # It may be held, and would wait for ever.
                self.client.post(f"/queue/{job['job_id']}/release")
        self.until(lambda: all(job["state"] in (*ENDED, "paused") for job in self.jobs()))

    def quiet(self) -> None:
        """No training is under way."""
        for job in self.jobs():
            if job["state"] not in ENDED:
                self.client.post(f"/jobs/{job['job_id']}/cancel")
        self.until(lambda: all(job["state"] in ENDED for job in self.jobs()))

    def daemon_runs(self) -> None:
        if self.daemon is None or self.daemon.poll() is not None:
            try:
                self.client.get("/health").ok()
            except (FileNotFoundError, ConnectionError):
                self.start()

    def no_daemon(self) -> None:
        self.at_terminal("btmctl daemon stop")
        self.stop()
        self.socket.unlink(missing_ok=True)


def completed(scene: Scene) -> None:
    """The newest training has ended with a result, and there is another one that has."""
    whole_data(scene)
    scene.settled()
    while [job["state"] for job in scene.jobs()[:2]] != ["completed", "completed"]:
        scene.ended(scene.train(**_SHORT))


def running(scene: Scene) -> None:
    whole_data(scene)
    if not scene.jobs() or scene.newest()["state"] != "training":
        scene.quiet()
        job_id = scene.train(**_LONG)
        scene.long.add(job_id)
        scene.until(lambda: scene.client.job(job_id)["step"] > 0)


def paused(scene: Scene) -> None:
    if not scene.jobs() or scene.newest()["state"] != "paused":
        running(scene)
        scene.client.post(f"/jobs/{scene.newest()['job_id']}/pause").ok()
        scene.until(lambda: scene.newest()["state"] == "paused")


def waiting(scene: Scene) -> None:
    """One trains, and two wait for it, the newest and the one before."""
    states = [job["state"] for job in scene.jobs()[:3]]
    if states != ["queued", "queued", "training"]:
        scene.quiet()
        running(scene)
        scene.train(**_SHORT)
        scene.train(**_SHORT)
    for job in scene.jobs()[:2]:
        scene.client.post(f"/queue/{job['job_id']}/release")


def held(scene: Scene) -> None:
    waiting(scene)
    scene.client.post(f"/queue/{scene.newest()['job_id']}/hold").ok()


def whole_data(scene: Scene) -> None:
    """The models and the data of the pages are there, and may be used."""
    for name in (MODEL, "SmolLM2", "smol"):
        scene.model(name)
    scene.dataset("questions")
    allowed = scene.client.get("/datasets/questions").ok()["scopes"]
    if not {"train", "export"} <= set(allowed):
        scene.btmctl("consent", "grant", "questions", "--scope", "train,export,backup")


def a_preset(scene: Scene) -> None:
    if "letters" not in scene.names("/preset-definitions"):
        scene.btmctl("presets", "create", "letters", "--from", "quick_test", "--set", "num_epochs=1")


def no_preset(scene: Scene) -> None:
    if "letters" in scene.names("/preset-definitions"):
        scene.btmctl("presets", "delete", "letters")


def a_preset_file(scene: Scene) -> None:
    a_preset(scene)
    if not (scene.home / "letters.toml").exists():
        scene.btmctl("presets", "export", "letters", "--out", str(scene.home / "letters.toml"))


def two_settings_set(scene: Scene) -> None:
    for seed in (17, 18, 19):
        scene.client.patch("/settings", {"changes": {"training.seed": seed, "log.level": "info"}}).ok()


def waits_for_confirmation(scene: Scene) -> None:
    seed = int(str(scene.setting("training.seed"))) + 1
    scene.btmctl("config", "set", f"training.seed={seed}", "--confirm", "30m")


def known_user(scene: Scene) -> None:
    scene.btmctl("access", "grant", OTHER_USER, "trainer")
    scene.btmctl("access", "grant", f"@{OTHER_GROUP}", "trainer")


def no_dataset(*names: str) -> Callable[[Scene], None]:
    def gone(scene: Scene) -> None:
        for name in names:
            if name in scene.names("/datasets"):
                scene.client.send("DELETE", f"/datasets/{name}").ok()

    return gone


def dataset_of(name: str) -> Callable[[Scene], None]:
    return lambda scene: scene.dataset(name)


def a_recovery_key(scene: Scene) -> None:
    scene.typed = str(json.loads(scene.btmctl("backup", "key", "show-recovery", "--json"))["recovery_key"])


def a_passphrase(scene: Scene) -> None:
    scene.typed = "four words on a stick 7"


def key_is_lost(scene: Scene) -> None:
    a_recovery_key(scene)
    (scene.state / "keys" / "key").unlink()


def no_daemon(scene: Scene) -> None:
    scene.no_daemon()


def database_is_lost(scene: Scene) -> None:
    a_recovery_key(scene)
    made = json.loads(scene.btmctl("backup", "create", "--to", str(scene.home / "stick"), "--json"))
    scene.on_stick = str(made["backup_id"])
    shutil.copy(scene.state / "keys" / "key", scene.home / "stick-key")
    scene.no_daemon()
    for path in scene.state.glob("btmd.db*"):
        path.unlink()


def a_gguf(scene: Scene) -> None:
    no_model("smol")(scene)
    make_tiny_gguf(scene.home / "known" / "smol", scene.home / "model.Q4_1.gguf")


def no_model(*names: str) -> Callable[[Scene], None]:
    def gone(scene: Scene) -> None:
        scene.settled()
        for name in names:
            if name in scene.names("/models"):
                scene.client.send("DELETE", f"/models/{name}").ok()

    return gone


def model_files(scene: Scene) -> None:
    """The folder that the page adds is there, and the daemon does not know the name yet."""
    no_model(MODEL)(scene)
    for place in (scene.home / "models" / MODEL, scene.home / MODEL):
        shutil.copytree(scene.home / "known" / MODEL, place, dirs_exist_ok=True)


def pickled(scene: Scene) -> None:
    shutil.copytree(scene.home / "known" / "smol", scene.home / "old" / "model", dirs_exist_ok=True)
    code = (
        "import torch; from safetensors.torch import load_file\n"
        "torch.save(load_file('model.safetensors'), 'pytorch_model.bin')"
    )
    subprocess.run([sys.executable, "-c", code], cwd=scene.home / "old" / "model", check=True)
    (scene.home / "old" / "model" / "model.safetensors").unlink()


def files_for_data(scene: Scene) -> None:
    home = scene.home
    (home / "handouts").mkdir(exist_ok=True)
    (home / "handouts" / "storms.txt").write_text("The lighthouse was built in the year of the storm.\n" * 20)
    (home / "table.csv").write_text("Question,Answer\n" + "".join(f"What is {n}?,It is {n}.\n" for n in range(20)))
    said = [f"T{n},{who},{n} {text},2026-03-0{n % 9 + 1} 1{at}:00" for n in range(20) for at, who, text in
            ((0, "ada", "does not work"), (1, "agent", "is mended"))]  # fmt: skip
    (home / "tickets.csv").write_text("Ticket,Author,Message,Time\n" + "".join(f"{line}\n" for line in said))
    votes = "".join(f"Which is {n}?,The better {n}.,Worse {n}.\n" for n in range(20))
    (home / "votes.csv").write_text("Question,Better,Worse\n" + votes)
    no_dataset("questions", "biology", "table", "tickets", "votes")(scene)


def tickets(scene: Scene) -> None:
    if not (scene.home / "names.txt").exists():
        # Those of another page's example have no customers.
        no_dataset("tickets")(scene)
    (scene.home / "names.txt").write_text("Anna Weiss\n")
    rows = [f"Anna Weiss,Where is CUSTOMER K-{n:06}?,Write to anna{n}@example.org." for n in range(20)]
    (scene.home / "tickets.csv").write_text("customer,question,answer\n" + "".join(f"{row}\n" for row in rows))
    if "tickets" not in scene.names("/datasets"):
        scene.btmctl("datasets", "add", str(scene.home / "tickets.csv"), "--map", "drop=customer", "--consent")


def nothing_is_held(scene: Scene) -> None:
    """No file of an earlier page stands where this one writes."""
    for path in scene.home.glob("SmolLM2*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (scene.home / "course.svg").unlink(missing_ok=True)


def makefile(scene: Scene) -> None:
    shutil.copy(Path(__file__).parents[2] / "Makefile", scene.home)


def reset_done(scene: Scene) -> None:
    scene.settled()
    scene.client.patch("/settings", {"changes": {"training.seed": 29}}).ok()
    scene.btmctl("reset", "--preserve-user-data")


def completion_folders(scene: Scene) -> None:
    for folder in (".local/share/bash-completion/completions", ".zfunc"):
        (scene.home / folder).mkdir(parents=True, exist_ok=True)


def another(scene: Scene) -> str:
    """The training before the newest."""
    return str(scene.jobs()[1]["job_id"])


def a_backup(scene: Scene) -> str:
    return str(scene.client.get("/backups").ok()[0]["backup_id"])


def a_full_backup(scene: Scene) -> str:
    return next(str(one["backup_id"]) for one in scene.client.get("/backups").ok() if one["kind"] == "full")


def a_head(scene: Scene) -> str:
    found = json.loads(scene.btmctl("audit", "verify", "--json"))
    return f"{found['epoch']}:{found['head_seq']}:{found['head_hash']}"


def a_change(scene: Scene) -> str:
    return str(scene.client.events(type="SettingChanged")[-1]["seq"])


def a_preset_change(scene: Scene) -> str:
    scene.btmctl("presets", "create", "letters2", "--from", "letters")
    return str(scene.client.events(stream="preset-letters")[-1]["seq"])


def nothing(scene: Scene) -> None:
    """As it is."""


Preparation = Callable[[Scene], None]
OURS: list[tuple[str, str, str | Callable[[Scene], str]]] = [
    # In commands that match the first, what stands there for the second.
    (r"", r"/media/stick", "~/stick"),
    (r"", r"/media/other/key", "~/stick-key"),
    (r"", r"/data/hf", "~/hf"),
    (r"", r"/tmp/package", "~/package"),
    (r"", r"/var/lib/node_exporter/textfile", "~/textfile"),
    (r"models pull", r"ORG/NAME|HuggingFaceTB/[\w-]+", "org/name"),
    (r"(share|give|grant|limit|revoke|--user) ", r"(?<![\w@])ada\b", OTHER_USER),
    (r"access|share", r"@(lab|staff|students)\b", f"@{OTHER_GROUP}"),
    (r"models (share|give)", r"\bNAME\b", MODEL),
    (r"datasets (share|give)", r"\bNAME\b", "questions"),
    (r"presets (share|give)", r"\bNAME\b", "letters"),
    (r"jobs (share|give)", r"\bNAME\b", "last"),
    (r"train |plan |--model", r"(?<=[ ])(M|MODEL)\b", MODEL),
    (r"train |plan ", r"(?<=[ ])(D|DATASET)\b", "questions"),
    (r"jobs |queue ", r"\bJ\b", "last"),
    (r"jobs |queue ", r"\bK\b|\bk3q7\w*", another),
    (r"audit report", r"\bk3q7\w*", lambda scene: str(scene.newest()["job_id"])),
    (r"^btmctl backup delete", r"\b9f86\b", a_backup),
    (r"^btmctl backup drill", r"\b9f86\b", a_full_backup),
    (r"^btmctl recover", r"\b9f86\b", lambda scene: scene.on_stick),
    (r"events --follow|audit export", r"\b1200\b", "12"),
    (r"text/event-stream", r"\bafter=120\b", "after=12"),
    (r"audit verify", r"1:1200:9f86d081\.\.\.", a_head),
    (r"config (undo|diff|confirm)", r"\b41\b", a_change),
    (r"presets undo", r"\b41\b", a_preset_change),
    (r"presets recommend", r"smollm2$", "SmolLM2"),
    (r"EDITOR=nano", r"EDITOR=nano ", ""),
]
"""Names that are somebody's own, and what they are here. Everything else is typed as it is printed."""

NEEDS: list[tuple[str, Preparation]] = [
    (r"jobs (watch|stop|cancel|set|pause) ", running),
    (r"jobs resume", paused),
    (r"queue (hold|move)", waiting),
    (r"queue release", held),
    (r"jobs (result|logs|export|plot|compare|rerun|show|share|give|delete)|chat|--from-job|audit report", completed),
    (r"jobs export|jobs plot", nothing_is_held),
    (r"models add .*Instruct", model_files),
    (r"models add ~/old", pickled),
    (r"models add model\.Q4", a_gguf),
    (r"models pull", no_model("org/name")),
    (r"datasets add", files_for_data),
    (r"anonymise tickets", tickets),
    (r"--dataset faq|\"dataset_id\": \"faq\"", dataset_of("faq")),
    (r"datasets (?!add)|btmctl consent|--dataset questions|plan |train |restore |--model", whole_data),
    (r"presets create letters", no_preset),
    (r"presets import", a_preset_file),
    (r"presets (edit|history|undo|export|delete|share|give).* (letters|NAME)", a_preset),
    (r"config (undo|diff|blame|history)", two_settings_set),
    (r"config confirm", waits_for_confirmation),
    (r"(share|give).* (ada|@\w+)|access (limit|revoke)", known_user),
    (r"key confirm-recovery", a_recovery_key),
    (r"key passphrase", a_passphrase),
    (r"key renew --recovery-key", key_is_lost),
    (r"recover ", database_is_lost),
    (r"daemon (run|start)|unshare", no_daemon),
    (r"^btmctl reset", whole_data),
    (r"^btmctl reset --undo", reset_done),
    (r"completion (bash|zsh) >", completion_folders),
    (r"make clean", makefile),
]
"""What is prepared before a command that matches: a person would not type it otherwise."""

ELSEWHERE: list[tuple[str, str]] = [
    (r"^make quickstart|^btmctl quickstart", "proof-quickstart"),
    (r"^make (install|wheel|bundle)|^pipx |^sh btmd-|^PIP_EXTRA_INDEX_URL", "proof-packaging"),
    (r"^make test", "test"),
    (r"\bsudo ", "proof-systemd"),
    (r"^(systemctl|journalctl) ", "proof-systemd"),
    (r"^btmctl daemon (un)?install(?!.*(--dry-run|--root))", "proof-systemd"),
    (r"^btmctl jobs answer", "test"),
]
"""Commands that change the machine itself, or need a rare moment; and the target of make that does as much."""

ENDLESS: list[tuple[str, str]] = [
    (r"jobs watch", r"step|%"),
    (r"^btmctl daemon run|^unshare", r"(?i)listen|ready|socket|operational"),
    (r"events --follow", r"\w"),
    (r"^btmctl notify$", r"\w"),
    (r"text/event-stream", r"data:"),
]
"""What goes on until Ctrl-C, which is typed once this is read."""
