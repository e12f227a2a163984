"""The folder that a daemon and a trainer share: plan, spool, lock, control, checkpoints, result.

There is no pipe between the two, so either can die and the other goes on. Whether a trainer lives is told by the
lock: the daemon takes it and the trainer inherits the descriptor, so a trainer still importing counts as alive.
"""

import fcntl
import os
from pathlib import Path

import msgspec

from btmd.files.durable import write_atomically

CONTROLS = ("pause", "stop", "cancel", "leave")


class LoraPlan(msgspec.Struct, frozen=True):
    """Adapter values. ``target_modules`` are names of linear layers; empty means all of them but the head."""

    r: int
    alpha: int
    dropout: float
    target_modules: tuple[str, ...] = ()


class TrialPlan(msgspec.Struct, frozen=True):
    """Steps on trial before the first one. The factors make the low end, the middle and the high end of a range."""

    most_s: float
    """What they may last, beyond one largest micro-batch and one of each length."""
    memory_factors: tuple[float, float, float]
    gpu_memory_factors: tuple[float, float, float]
    time_factors: tuple[float, float, float]
    disk_bytes: tuple[float, float, float]
    """Foretold already: no step tells more of it."""
    row_bytes: int
    """What one more of the longest rows at once takes, by formula."""
    limit_bytes: int = 0
    """Main memory that this trainer may take; 0: what the machine has."""
    measures_rates: bool = False
    """Whether the machine's rates are not known yet."""


class TrainerPlan(msgspec.Struct, frozen=True):
    """Everything a trainer needs, frozen when the job was submitted. Paths are absolute."""

    job_id: str
    store_id: str
    epoch: int
    """Of the store; a recovered store has a later one."""
    model_folder: str
    rows_path: str
    rows_sha256: str
    training_type: str
    num_epochs: int
    learning_rate: float
    batch_size: int
    """Effective: rows an optimizer step."""
    micro_batch_size: int
    max_length: int
    """Tokens a row."""
    warmup_ratio: float
    lr_scheduler: str
    """``cosine``, ``linear`` or ``constant``."""
    weight_decay: float
    max_gradient_norm: float
    precision: str
    """``bf16``, ``fp16`` or ``fp32``."""
    gradient_checkpointing: bool
    compile: bool
    packing: bool
    held_out_fraction: float
    eval_every: int
    """Optimizer steps between held-out evaluations; 0: only before and after."""
    save_every: int
    """Optimizer steps between checkpoints."""
    patience: int
    """Evaluations without gain before an early stop; 0: never."""
    seed: int
    threads: int
    device: str
    """``cpu`` or ``cuda:N``."""
    lora: LoraPlan | None = None
    max_steps: int = 0
    """0: as many as the epochs take."""
    adapter_folder: str | None = None
    """An earlier adapter to start from."""
    keep_checkpoints: int = 2
    """Newest ones kept beside the best."""
    tick_every_s: float = 1.0
    sample_answers: int = 3
    """Held-out prompts answered before and after training."""
    sample_tokens: int = 64
    held_out_limit: int = 0
    """At most this many held-out rows are evaluated; 0: all."""
    time_limit_s: float = 0
    """Wall time of all attempts together, from the first one's start, within which the result stands; 0: no limit."""
    dpo_beta: float = 0.1
    """Of preference tuning: how closely the model stays to the one it was."""
    submitted_us: int = 0
    """When the job was submitted; chat templates that write a date see this one in every attempt."""
    trial: TrialPlan | None = None
    """None: the first step is taken at once."""

    @property
    def trains_adapter(self) -> bool:
        """Whether an adapter is trained, and the weights stay as they are."""
        return self.lora is not None or self.adapter_folder is not None

    @property
    def can_leave_out(self) -> bool:
        """Whether the model as it was before the first step can be had at any time, by leaving the adapter out."""
        return self.trains_adapter and self.adapter_folder is None

    split_rule: int = 0
    """How rows are held out (btmd.data.split); the one that the job was submitted with."""
    model_fingerprint: str = ""
    """Of the model when it was registered (btmd.model_fingerprint); empty: it is not compared."""
    answers_keys: str = ""
    """The folder with the keys of sample answers of this dataset (btmd.data.answers_file); empty: they stay plain."""
    quarantined_rows: tuple[int, ...] = ()
    """Rows of the dataset, by the number that findings give them, that take no part any more. The order of the others
    stays as it was; a step that has none left passes without changing anything."""
    resume_before_step: int | None = None
    """Only checkpoints from before this step (counted from 1) began are used; later ones are set aside, once: those
    made since then with the same value count."""
    general_questions: int = 0
    """Everyday questions by which forgetting is noticed, measured before and after; 0: none."""
    scored_answers: int = 0
    """Held-out prompts with short answers whose generated answers are compared with the data's; 0: none."""


class TrainerProcess(msgspec.Struct, frozen=True):
    """What the pid file holds. A pid alone may belong to another process by now; with start and boot it cannot."""

    pid: int
    start_ticks: int
    """Start since boot, in clock ticks: field 22 of /proc/<pid>/stat."""
    boot_id: str
    attempt: int


class JobFolder:
    """Names of everything inside one job's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.plan_path = path / "plan.json"
        self.lock_path = path / "lock"
        self.pid_path = path / "pid"
        self.control_path = path / "control"
        self.checkpoints = path / "checkpoints"
        self.result = path / "result"
        self.start = path / "start"
        """The adapter that the training begins with, if it goes on from another job's."""
        self.answers_path = path / "answers.json"
        self.trial_path = path / "trial.json"
        self.held_out_path = path / "held_out.json"
        """The held-out loss of each row, before and after; numbers only."""
        self.tmp = path / "tmp"

    def size_bytes(self) -> int:
        """What all files in it hold together."""
        return sum(path.stat().st_size for path in self.path.rglob("*") if path.is_file())

    def spool_path(self, attempt: int) -> Path:
        return self.path / "spool" / f"attempt-{attempt:04d}.spool"

    def log_path(self, attempt: int) -> Path:
        return self.path / "logs" / f"attempt-{attempt:04d}.log"

    def create(self, plan: TrainerPlan) -> None:
        """Make the folder with its plan; raises OSError and leaves no half plan behind."""
        for folder in (self.path, self.path / "spool", self.path / "logs", self.checkpoints, self.tmp):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(self.plan_path, msgspec.json.format(msgspec.json.encode(plan), indent=1))

    def read_plan(self) -> TrainerPlan:
        return msgspec.json.decode(self.plan_path.read_bytes(), type=TrainerPlan)

    def write_control(self, control: str) -> None:
        """Say what the next SIGTERM means: one of CONTROLS. ``leave``: to end at once, without a checkpoint."""
        if control not in CONTROLS:
            raise ValueError(f"unknown control {control!r}")
        write_atomically(self.control_path, control.encode())

    def read_control(self) -> str:
        """What a SIGTERM means; without a word it is a pause, so that a plain kill loses nothing."""
        try:
            control = self.control_path.read_text()
        except FileNotFoundError:
            return "pause"
        return control if control in CONTROLS else "pause"

    def clear_control(self) -> None:
        self.control_path.unlink(missing_ok=True)

    def write_pid(self, attempt: int) -> None:
        """Say in the pid file which process trains: the calling one."""
        pid = os.getpid()
        mine = TrainerProcess(pid, process_start_ticks(pid), read_boot_id(), attempt)
        write_atomically(self.pid_path, msgspec.json.encode(mine))

    def read_pid(self) -> TrainerProcess | None:
        """The trainer named in the pid file if that very process still exists; None otherwise."""
        try:
            found = msgspec.json.decode(self.pid_path.read_bytes(), type=TrainerProcess)
            same = found.boot_id == read_boot_id() and process_start_ticks(found.pid) == found.start_ticks
        except (FileNotFoundError, ProcessLookupError, msgspec.DecodeError):
            return None
        return found if same else None

    def take_lock(self, *, make: bool = True) -> int | None:
        """Take the lock and return its inheritable descriptor; None while a trainer holds it.

        Raises FileNotFoundError where there is no folder or, without ``make``, no lock yet.
        """
        file = os.open(self.lock_path, os.O_RDWR | (os.O_CREAT if make else 0), 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return None
        os.set_inheritable(file, True)
        return file

    def is_alive(self) -> bool:
        """Whether a trainer holds the lock; where there is none, or no folder any more, nobody can."""
        try:
            file = self.take_lock(make=False)
        except FileNotFoundError:
            return False
        if file is None:
            return True
        os.close(file)
        return False


def process_start_ticks(pid: int) -> int:
    """When a process started, in clock ticks since boot; raises ProcessLookupError or FileNotFoundError if none."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    # The name in brackets may hold blanks and brackets itself: count from the last bracket.
    return int(stat.rpartition(")")[2].split()[19])


def read_boot_id() -> str:
    """Tells this boot of the machine from every other."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
