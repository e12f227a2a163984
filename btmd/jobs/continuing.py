"""Going on from a job's adapter with other data: what the adapter prescribes, and a copy of it for the new job."""

import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio.to_thread
import msgspec
from msgspec import Struct
from msgspec.structs import replace

from btmd.domain.preset import Preset
from btmd.errors import Conflict, InvalidValue
from btmd.job_folder import JobFolder
from btmd.planning import Plan
from btmd.planning.plan import Value
from btmd.planning.training_types import FULL, LORA
from btmd.projections.job import JobRow
from btmd.projections.model import ModelRow

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


class NoAdapter(Conflict):
    code, title = "no_adapter", "The job has no adapter to go on from"


class _AdapterConfig(msgspec.Struct):
    r: int
    lora_alpha: float
    target_modules: list[str] | str = msgspec.field(default_factory=list)


class Start(Struct, frozen=True):
    """The adapter that a training begins with. ``sha256`` is of its weights."""

    job_id: str
    folder: Path
    lora_r: int
    lora_alpha: int
    target_modules: tuple[str, ...]
    """Empty for all linear layers."""
    sha256: str

    @property
    def values(self) -> dict[str, Any]:
        """What every plan that begins with it holds."""
        return {"lora_r": self.lora_r, "lora_alpha": self.lora_alpha, "target_modules": self.target_modules}


async def find_start(row: JobRow, source_plan: Mapping[str, Any], model: ModelRow, jobs_dir: Path) -> Start:
    """The adapter of a completed job, for the model that it was trained on. Raises NoAdapter, Conflict."""
    job = row.job_id
    if row.state != "completed":
        raise NoAdapter(
            f"The job {job} is {row.state}: only a completed one has an adapter to go on from.",
            hint=f"`btmctl jobs stop {job}` ends a training early and keeps what it has learned.",
        )
    folder = JobFolder(jobs_dir / job).result
    if not (folder / ADAPTER_FILES[1]).is_file():
        gone = not folder.is_dir()
        raise NoAdapter(
            f"The result of the job {job} is not there any more."
            if gone
            else f"The job {job} trained all weights: its result is a whole model, not an adapter.",
            hint="" if gone else f"`btmctl models add {folder} --name NAME` makes it a model to train further.",
        )
    trained_on = str(source_plan.get("model_fingerprint") or "")
    if row.model_id != model.model_id or trained_on not in ("", model.facts.fingerprint):
        changed = " as it was then" if row.model_id == model.model_id else ""
        raise Conflict(
            f"The adapter of the job {job} belongs to the model {row.model_id}{changed}, and fits no other.",
            hint=f"Train {row.model_id} with it, or {model.model_id} without --from-job.",
        )
    return await anyio.to_thread.run_sync(_read, job, folder, model)


def _read(job_id: str, folder: Path, model: ModelRow) -> Start:
    try:
        config = msgspec.json.decode((folder / ADAPTER_FILES[0]).read_bytes(), type=_AdapterConfig)
        digest = adapter_sha256(folder)
    except (OSError, msgspec.DecodeError) as error:
        raise NoAdapter(f"The adapter of the job {job_id} cannot be read ({type(error).__name__}).") from error
    named = () if isinstance(config.target_modules, str) else tuple(config.target_modules)
    every = set(named) == set(model.facts.linear_layers)
    return Start(job_id, folder, config.r, round(config.lora_alpha), () if every else named, digest)


def adapter_sha256(folder: Path) -> str:
    """Of the weights. Raises OSError."""
    with (folder / ADAPTER_FILES[1]).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def with_adapter(start: Start, asked: Mapping[str, object], preset: Preset) -> dict[str, object]:
    """What is asked of the plan, with what the adapter prescribes. Raises InvalidValue where the two differ."""
    whole = str(asked.get("training_type", "")) == FULL
    if whole or ("lora_r" in asked and asked["lora_r"] == 0):
        raise InvalidValue(
            f"All weights cannot be trained from the adapter of the job {start.job_id}.",
            hint="Leave training_type and lora_r out: an adapter is trained further.",
        )
    for key, held in start.values.items():
        given = asked.get(key, held)
        same = tuple(given) == tuple(held) if isinstance(given, (list, tuple)) else given == held
        if not same:
            raise InvalidValue(
                f"{key} cannot be {given} here: the adapter of the job {start.job_id} has {held or 'all layers'}.",
                hint=f"Leave {key} out.",
            )
    values: dict[str, object] = {**asked, **start.values}
    if "training_type" not in asked and preset.training_type == FULL:
        values["training_type"] = LORA
    return values


def told_as_adapter(plan: Plan, start: Start, asked: Mapping[str, object]) -> Plan:
    """The plan, in which values that the adapter prescribes say so."""
    reason = f"The adapter of the job {start.job_id}, which this training goes on from, has it."
    values = dict(plan.values)
    for key in ("training_type", *start.values):
        value = values[key]
        if key not in asked and value.source == "user":
            values[key] = Value(value.value, "model", reason)
    note = f"It goes on from the adapter of the job {start.job_id}: before and after are measured from there."
    return replace(plan, values=values, notes=(note, *plan.notes))


def keep_adapter(source: Path, folder: JobFolder) -> Path:
    """A copy of an adapter in the folder of the job that begins with it, so that the other job may be deleted.

    Files are linked where the disk allows that, which takes no room: nobody writes into a result. Raises OSError.
    """
    folder.path.mkdir(mode=0o700, exist_ok=True)
    folder.start.mkdir(mode=0o700, exist_ok=True)
    for name in ADAPTER_FILES:
        target = folder.start / name
        target.unlink(missing_ok=True)
        try:
            os.link(source / name, target)
        except OSError:
            shutil.copyfile(source / name, target)
            target.chmod(0o600)
    return folder.start


def has_start(told: Mapping[str, Any], jobs_dir: Path, job_id: str) -> bool:
    """Whether the copy that a job begins with is there; after a recovery from a backup it is taken anew if it can be.

    ``told`` is the job's plan, which names the adapter it came from and its hash.
    """
    folder = JobFolder(jobs_dir / job_id)
    if (folder.start / ADAPTER_FILES[1]).is_file():
        return True
    source = JobFolder(jobs_dir / str(told.get("from_job"))).result
    try:
        if adapter_sha256(source) != told.get("adapter_sha256"):
            return False
        keep_adapter(source, folder)
    except OSError:
        return False
    return True


@asynccontextmanager
async def begun_with(source: Path | None, folder: JobFolder) -> AsyncIterator[None]:
    """Keep the adapter for a job that is about to be made, and nothing where that fails."""
    if source is None:
        yield
        return
    try:
        await anyio.to_thread.run_sync(keep_adapter, source, folder)
        yield
    except BaseException:
        shutil.rmtree(folder.path, ignore_errors=True)
        raise
