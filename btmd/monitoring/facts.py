"""What progress and results are told from. Times in microseconds UTC, losses in nats per learned token."""

from collections.abc import Mapping

from msgspec import Struct, field

from btmd.monitoring.comparison import Repeat
from btmd.monitoring.verdict import Evidence


class AttemptSpan(Struct, frozen=True):
    """When one trainer process ran; ``ended_us`` is None while it does."""

    started_us: int
    ended_us: int | None = None


class TickPoint(Struct, frozen=True):
    """One tick of the attempt that runs: ``elapsed_s`` is its training time, measuring and saving excluded."""

    step: int
    elapsed_s: float
    loss: float
    at_us: int | None = None
    """When it was recorded."""


class JobProgress(Struct, frozen=True):
    """A job as it stands. ``epoch`` is counted from 0."""

    job_id: str
    model_id: str
    state: str
    asked: str = ""
    """What the running attempt was asked and has not done yet: ``pause``, ``stop``, ``cancel`` or ``consent``."""
    stage_text: str = ""
    step: int = 0
    total_steps: int = 0
    epoch: int = 0
    total_epochs: int = 0
    resumed_from_step: int = 0
    """Step at which the running attempt began."""
    attempts: tuple[AttemptSpan, ...] = ()
    last_tick_us: int | None = None
    eval_every: int = 0
    evaluation_s: float | None = None
    """Mean duration of a held-out measurement; None before the first."""
    evaluations: tuple[tuple[int, float], ...] = ()
    """Step and duration of those that this attempt has made."""
    save_every: int = 0
    saving_s: float = 0.0
    """Foretold for a checkpoint; 0 where it is not."""
    saved_steps: tuple[int, ...] = ()
    """Where this attempt has saved one."""
    closing_s: float | None = None
    """Foretold for what comes after the last step; None where it is not."""
    time_limit_s: float = 0.0
    """Training time after which it ends; 0: none."""
    trained_s: float = 0.0
    """Training time of all attempts so far."""
    current_loss: float | None = None
    best_loss: float | None = None
    held_out_before: float | None = None
    held_out_loss: float | None = None
    held_out_best: float | None = None
    learning_rate: float | None = None
    tokens_per_s: float | None = None
    memory_bytes: int | None = None
    gpu_memory_bytes: int | None = None
    gpu_utilization: float | None = None
    disk_free_bytes: int | None = None
    job_bytes: int | None = None
    """What the job's checkpoints take."""
    jobs_before: int = 0
    """Jobs that train or wait before this one; for a queued job."""
    waits_for: str = ""
    """What it waits for, in a sentence; empty where it does not wait, and until that is known."""
    text: str = ""
    """Why it failed or is recovering, in a sentence."""
    ended_by: str = ""
    warnings: tuple[str, ...] = ()
    recommendations: tuple[str, ...] = ()


class JobOutcome(Struct, frozen=True):
    """An ended job. ``training_s`` counts its attempts; ``result_path`` is None when nothing was kept."""

    job_id: str
    model_id: str
    state: str
    ended_by: str
    training_s: float
    steps: int
    total_steps: int
    best_step: int | None = None
    final_loss: float | None = None
    evidence: Evidence = field(default_factory=Evidence)
    result_path: str | None = None
    margin: float | None = None
    """Of held-out pairs: by how much the chosen answer gained on the rejected one, on average."""
    accuracy: float | None = None
    """Of held-out pairs: the share in which it did."""
    training_type: str = ""
    learning_rate: float = 0.0
    num_epochs: int = 0
    eval_every: int = 0
    held_out_fraction: float = 0.1
    train_rows: int | None = None
    dataset_id: str = ""
    preset: str = ""
    overrides: Mapping[str, object] = field(default_factory=dict)
    """What was asked for beside the preset."""
    from_job: str = ""
    """Whose adapter it began with."""
    reason: str = ""
    text: str = ""
    hint: str = ""
    warnings: tuple[str, ...] = ()
    recoveries: int = 0
    """How often it failed and was taken up again by itself."""
    account: tuple[str, ...] = ()
    """What went wrong, what was done about it, and what was changed against the plan, in sentences."""
    forecast: str = ""
    """How the forecast turned out, in a sentence."""
    repeat: Repeat | None = None
    """Beside the job that it repeats."""
