"""The same training once more: same plan, seeds, rows and model, or a refusal that says what has changed."""

from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import anyio.to_thread
import msgspec
from msgspec import Struct

from btmd.command_handler import Handled
from btmd.domain.event import Actor
from btmd.domain.forecast import Forecast, ForecastMade
from btmd.domain.job import JobState, stream_name
from btmd.domain.job_events import JobSubmitted
from btmd.errors import BtmdError, Conflict
from btmd.hardware import probe
from btmd.job_folder import JobFolder, TrainerPlan
from btmd.jobs.continuing import adapter_sha256
from btmd.jobs.report import read_report
from btmd.jobs.submission import Submission
from btmd.monitoring.advice import train_command
from btmd.projections.dataset import version
from btmd.projections.job import JobRow
from btmd.projections.model import ModelRow, models
from btmd.registry.content import ContentStore
from btmd.registry.models import require_unchanged
from btmd.store.event_log import IdempotencyKey, Recorded, Store


class NotRepeatable(Conflict):
    code, title = "not_repeatable", "The training cannot be repeated as it was"


class Repetition(Struct, frozen=True):
    """A job as it would be submitted once more. ``remarks`` say what may make its figures differ a little."""

    submitted: JobSubmitted
    forecast: Forecast | None
    adapter: Path | None
    remarks: tuple[str, ...]


class Rerunning:
    """Repeats jobs. ``state_dir`` is where the machine's disk is looked at."""

    def __init__(
        self, *, store: Store, submission: Submission, contents: ContentStore, jobs_dir: Path, state_dir: Path
    ) -> None:
        self._store, self._submission, self._contents = store, submission, contents
        self._jobs_dir, self._state_dir = jobs_dir, state_dir

    async def prepare(self, row: JobRow, *, actor: Actor, name: str = "", priority: int = 0) -> Repetition:
        """The job once more. Raises NotRepeatable with everything that has changed."""
        report = await read_report(self._store, row)
        plan = msgspec.convert(report.trainer_plan, TrainerPlan)
        async with self._store.session() as session:
            registered = next((one for one in await models(session) if one.model_id == row.model_id), None)
            rows = await version(session, row.dataset_id, row.dataset_version)
        if registered is None:
            changed = [f"the model {row.model_id} is not registered any more"]
        else:
            changed = await anyio.to_thread.run_sync(_changed_model, registered, plan)
        if rows is None or rows.rows_sha256 != plan.rows_sha256 or not self._contents.whole(plan.rows_sha256):
            changed.append(f"version {row.dataset_version} of the dataset {row.dataset_id} is not there any more")
        adapter = JobFolder(self._jobs_dir / row.job_id).start if plan.adapter_folder else None
        if adapter is not None:
            changed += await anyio.to_thread.run_sync(_changed_adapter, adapter, report.plan)
        if plan.device != "cpu" and not (await anyio.to_thread.run_sync(probe, self._state_dir)).gpus:
            changed.append(f"it was trained on the device {plan.device}, and no GPU can be used now")
        if changed:
            again = train_command(row.model_id, row.dataset_id, row.preset, "", report.overrides)
            raise NotRepeatable(
                f"The training {row.job_id} cannot be repeated as it was: {'; '.join(changed)}.",
                hint=f"`{again}` trains with what is there now.",
            )
        assert registered is not None
        repeated = await self._submitted(row, plan, registered, report.plan, name=name, priority=priority, actor=actor)
        remarks = await anyio.to_thread.run_sync(_other_versions, JobFolder(self._jobs_dir / row.job_id))
        return Repetition(repeated[0], repeated[1], adapter, tuple(remarks))

    async def _submitted(
        self,
        row: JobRow,
        plan: TrainerPlan,
        registered: ModelRow,
        told: dict[str, Any],
        *,
        name: str,
        priority: int,
        actor: Actor,
    ) -> tuple[JobSubmitted, Forecast | None]:
        """The job's first event under a new id, and the forecast that was made then."""
        job_id, forecast = self._submission.new_job_id(), None
        first: JobSubmitted | None = None
        for recorded in await self._store.read_stream(stream_name(row.job_id)):
            if isinstance(recorded.event, JobSubmitted):
                first = recorded.event
            elif isinstance(recorded.event, ForecastMade):
                forecast = recorded.event.forecast
                break
        assert first is not None
        new_plan = msgspec.structs.replace(
            plan,
            job_id=job_id,
            store_id=self._store.store_id,
            epoch=self._store.head.epoch,
            model_folder=registered.folder,
        )
        submitted = JobSubmitted(
            job_id=job_id,
            name=name,
            owner_uid=actor.uid,
            model_id=row.model_id,
            dataset_id=row.dataset_id,
            dataset_version=row.dataset_version,
            preset=row.preset,
            plan={**told, "rerun_of": row.job_id},
            trainer_plan=msgspec.to_builtins(new_plan),
            overrides=first.overrides,
            allow=first.allow,
            priority=priority,
            custom_description=row.custom_description,
        )
        return submitted, forecast

    async def start(
        self,
        repetition: Repetition,
        *,
        actor: Actor,
        idempotency: IdempotencyKey | None = None,
        respond: Callable[[JobState, list[Recorded]], bytes] | None = None,
    ) -> Handled:
        """Make the job. Raises ConsentMissing, StoreFull, StoreFailed."""
        return await self._submission.repeat(
            repetition.submitted,
            repetition.forecast,
            repetition.adapter,
            actor=actor,
            idempotency=idempotency,
            respond=respond,
        )


def _changed_model(registered: ModelRow, plan: TrainerPlan) -> list[str]:
    """What of the model is not as it was when the job was made."""
    if plan.model_fingerprint not in ("", registered.facts.fingerprint):
        return [f"the model {registered.model_id} was added anew since, with other contents"]
    try:
        require_unchanged(registered)
    except BtmdError as error:
        return [error.detail[:1].lower() + error.detail[1:].rstrip(".")]
    return []


def _changed_adapter(folder: Path, told: dict[str, Any]) -> list[str]:
    came_from = f"the adapter of the job {told.get('from_job')} that it went on from"
    try:
        same = adapter_sha256(folder) == told.get("adapter_sha256")
    except OSError:
        return [f"{came_from} is not there any more"]
    return [] if same else [f"{came_from} was changed"]


def _other_versions(folder: JobFolder) -> list[str]:
    """Packages that have changed since the result was written; they may make the last digits of a loss differ."""
    try:
        then = msgspec.json.decode((folder.result / "training.json").read_bytes())["versions"]
    except (OSError, msgspec.DecodeError, KeyError, TypeError):
        return []
    remarks = []
    for package in sorted(then.keys() - {"python", "btmd"}):
        try:
            now = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
        if now != then[package]:
            remarks.append(
                f"{package} was {then[package]} then and is {now} now: losses may differ in their last digits."
            )
    return remarks
