"""From a wish to a job: resolve, measure, plan, and freeze the plan into the job's first event."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec
from msgspec import Struct, field

from btmd.command_handler import CommandHandler, Handled
from btmd.domain import settings
from btmd.domain.dataset import AcceptPersonalData, GrantConsent, stream_name
from btmd.domain.event import Actor
from btmd.domain.forecast import Forecast, texts
from btmd.domain.hardware import Hardware
from btmd.domain.job import JobState, SubmitJob
from btmd.domain.job_events import JobSubmitted
from btmd.domain.preset import Preset
from btmd.domain.settings import SettingsState
from btmd.errors import ConsentMissing, InvalidValue, PersonalDataFound
from btmd.hardware import probe
from btmd.inspection.facts import DatasetFacts, PersonalData
from btmd.job_folder import JobFolder
from btmd.jobs.continuing import Start, begun_with, find_start, told_as_adapter, with_adapter
from btmd.jobs.forecasting import Foretold, foretell
from btmd.jobs.plan_request import to_token_facts
from btmd.jobs.trainer_plan import to_trainer_plan
from btmd.jobs.uses import require_use_allowed
from btmd.naming import LONGEST_NAME, find_dataset, find_job, find_model
from btmd.planning import SIMPLEST_PRESET, Plan, PlanRequest, choose_preset, make_plan
from btmd.presets.catalogue import PresetCatalogue
from btmd.presets.reading import CHOOSE_KEY
from btmd.projections.dataset import DatasetRow, DatasetVersionRow, version
from btmd.projections.job import job_plan
from btmd.projections.model import ModelRow
from btmd.registry.anonymising import Anonymising
from btmd.registry.datasets import DatasetAdding
from btmd.registry.model_settings import beginning_with, told_as_settings
from btmd.registry.models import require_unchanged
from btmd.store.event_log import IdempotencyKey, Recorded, Store
from btmd.vocabulary import personal_data

OnProgress = Callable[[float, str], None]


class Wish(Struct, frozen=True):
    """What a person asks for; ids, names or unique prefixes."""

    model: str
    dataset: str
    preset: str | None = None
    overrides: Mapping[str, object] = field(default_factory=dict)
    allow: frozenset[str] = frozenset()
    consent: bool = False
    """Grant the consent that is missing, for training."""
    purpose: str = ""
    """What the data may be used for; goes with a consent that is granted here."""
    accept_personal_data: bool = False
    """Train on the personal data that was found, as it is."""
    from_job: str = ""
    """Go on from this job's adapter."""
    name: str = ""
    custom_description: str = ""
    priority: int = 0


class Prepared(Struct, frozen=True):
    """A plan that could start now, with what it was made from."""

    wish: Wish
    plan: Plan
    preset: Preset
    preset_reason: str
    model: ModelRow
    dataset: DatasetRow
    version: DatasetVersionRow
    rows_path: Path
    tick_every_s: float
    grants_consent: bool
    foretold: Foretold
    begins_with: Start | None = None

    def as_values(self) -> dict[str, Any]:
        """The plan with its reasons, as plain JSON values."""
        values: dict[str, Any] = msgspec.to_builtins(self.plan, str_keys=True)
        start = self.begins_with
        return {
            "model_id": self.model.model_id,
            "dataset_id": self.dataset.dataset_id,
            "dataset_version": self.version.version_id,
            "preset_name": self.preset.name,
            "preset_reason": self.preset_reason,
            **({"from_job": start.job_id, "adapter_sha256": start.sha256} if start is not None else {}),
            **values,
            "forecast": msgspec.to_builtins(self.foretold.forecast),
            "forecast_texts": texts(self.foretold.forecast),
        }


class Submission:
    """Plans and submits jobs. ``new_job_id`` and ``clock`` (microseconds UTC) come from outside.

    Who holds ``submitting`` knows that no job begins meanwhile.
    """

    def __init__(
        self,
        *,
        store: Store,
        handler: CommandHandler,
        datasets: DatasetAdding,
        anonymising: Anonymising,
        presets: PresetCatalogue,
        state_dir: Path,
        jobs_dir: Path,
        submitting: anyio.Lock,
        new_job_id: Callable[[], str],
        clock: Callable[[], int],
    ) -> None:
        self._submitting = submitting
        self._store, self._handler, self._datasets = store, handler, datasets
        self._anonymising, self._presets = anonymising, presets
        self._state_dir, self._jobs_dir = state_dir, jobs_dir
        self.new_job_id, self._clock = new_job_id, clock

    async def prepare(self, wish: Wish, on_progress: OnProgress) -> Prepared:
        """The plan for a wish, or the refusal of what cannot succeed; changes nothing.

        Raises what is wrong with the model, the data, the preset, a value, the consent, the memory or the disk.
        """
        if len(wish.name) > LONGEST_NAME:
            raise InvalidValue(f"A job's name has at most {LONGEST_NAME} characters.")
        preset = None if wish.preset is None else await self._presets.find(wish.preset)
        async with self._store.session() as session:
            model = await find_model(session, wish.model)
            dataset = await find_dataset(session, wish.dataset)
            chosen = await version(session, dataset.dataset_id, dataset.newest_version)
        assert chosen is not None
        grants_consent = "train" not in dataset.scopes
        if grants_consent and not wish.consent:
            raise _not_allowed(dataset.name)
        rows_path = self._datasets.rows_path(chosen)
        await anyio.to_thread.run_sync(require_unchanged, model)
        hardware = await anyio.to_thread.run_sync(probe, self._state_dir)
        state, _ = await self._handler.state(settings.STREAM)
        state = state or SettingsState()
        facts = msgspec.convert(chosen.facts, DatasetFacts)
        reason = "It was asked for."
        if preset is None:
            preset, reason = await self._usual_preset(state, model, hardware, facts.row_kind)
        start = await self._start(wish.from_job, model) if wish.from_job else None
        asked = wish.overrides if start is None else with_adapter(start, wish.overrides, preset)
        measured = await self._datasets.measure(chosen, model, on_progress)
        tokens = to_token_facts(measured, facts)
        plan = make_plan(
            PlanRequest(
                preset=preset,
                model=model.facts,
                tokens=tokens,
                hardware=hardware,
                settings=state.all(),
                overrides=beginning_with(model.settings, asked, preset, wish.allow),
                allow=wish.allow,
                simpler=self._presets.built_in[SIMPLEST_PRESET],
            )
        )
        if plan.preset != preset.key:
            preset = self._presets.built_in[plan.preset]
            reason = "Nothing of the preset that was wanted fits, and a simpler one was allowed."
        if start is not None:
            plan = told_as_adapter(plan, start, wish.overrides)
        plan = told_as_settings(plan, model.settings, asked, model.model_id)
        return Prepared(
            wish,
            plan,
            preset,
            reason,
            model,
            dataset,
            chosen,
            rows_path,
            float(state.get("training.tick_every_s")),
            grants_consent,
            await foretell(self._store, plan, model.facts, tokens, hardware),
            start,
        )

    async def _start(self, job: str, model: ModelRow) -> Start:
        async with self._store.session() as session:
            row = await find_job(session, job)
            frozen = await job_plan(session, row.job_id)
        await require_use_allowed(self._store, row)
        assert frozen is not None
        return await find_start(row, msgspec.json.decode(frozen.trainer_plan_json), model, self._jobs_dir)

    async def personal_data(self, prepared: Prepared, on_progress: OnProgress) -> PersonalData:
        """What the version that would be trained on holds; asked about when the job is made."""
        return await self._anonymising.personal_data(prepared.version, on_progress)

    async def submit(
        self,
        prepared: Prepared,
        *,
        actor: Actor,
        idempotency: IdempotencyKey | None = None,
        respond: Callable[[JobState, list[Recorded]], bytes] | None = None,
    ) -> Handled:
        """Make the job. Raises ConsentMissing, PersonalDataFound, StoreFull, StoreFailed."""
        wish, job_id = prepared.wish, self.new_job_id()
        personal = await self.personal_data(prepared, _unheard)
        if personal.kinds and not wish.accept_personal_data:
            raise _personal_data(prepared.dataset, personal)
        folder = JobFolder(self._jobs_dir / job_id)
        trainer_plan = msgspec.structs.replace(
            to_trainer_plan(
                prepared.plan,
                job_id=job_id,
                store_id=self._store.store_id,
                epoch=self._store.head.epoch,
                model_folder=Path(prepared.model.folder),
                rows_path=prepared.rows_path,
                rows_sha256=prepared.version.rows_sha256,
                tick_every_s=prepared.tick_every_s,
                adapter_folder=None if prepared.begins_with is None else folder.start,
            ),
            submitted_us=self._clock(),
            trial=prepared.foretold.trial,
            model_fingerprint=prepared.model.facts.fingerprint,
        )
        submitted = JobSubmitted(
            job_id=job_id,
            name=wish.name,
            owner_uid=actor.uid,
            model_id=prepared.model.model_id,
            dataset_id=prepared.dataset.dataset_id,
            dataset_version=prepared.version.version_id,
            preset=prepared.preset.key,
            plan=prepared.as_values(),
            trainer_plan=msgspec.to_builtins(trainer_plan),
            overrides=dict(wish.overrides),
            allow=tuple(sorted(wish.allow)),
            priority=wish.priority,
            custom_description=wish.custom_description,
        )
        command = SubmitJob(submitted, prepared.foretold.forecast)
        source = None if prepared.begins_with is None else prepared.begins_with.folder
        async with self._submitting, begun_with(source, folder):
            await self._require_allowed(prepared, personal, actor)
            return await self._handler.handle(command, actor=actor, idempotency=idempotency, respond=respond)

    async def repeat(
        self,
        submitted: JobSubmitted,
        forecast: Forecast | None,
        adapter: Path | None,
        *,
        actor: Actor,
        idempotency: IdempotencyKey | None = None,
        respond: Callable[[JobState, list[Recorded]], bytes] | None = None,
    ) -> Handled:
        """Make a job whose plan is there already; ``adapter`` is what it begins with. Raises ConsentMissing."""
        folder = JobFolder(self._jobs_dir / submitted.job_id)
        async with self._submitting, begun_with(adapter, folder):
            await require_training_allowed(self._handler, submitted.dataset_id)
            command = SubmitJob(submitted, forecast)
            return await self._handler.handle(command, actor=actor, idempotency=idempotency, respond=respond)

    async def _require_allowed(self, prepared: Prepared, personal: PersonalData, actor: Actor) -> None:
        """Have the consent that was asked for, and what was said to personal data. Raises ConsentMissing."""
        if prepared.grants_consent:
            granted = GrantConsent(prepared.dataset.dataset_id, actor.uid, prepared.wish.purpose)
            await self._handler.handle(granted, actor=actor)
        else:
            # Since the plan was made it may have been taken back.
            await require_training_allowed(self._handler, prepared.dataset.dataset_id)
        if personal.kinds:
            rows = {one.kind: one.rows for one in personal.kinds}
            accepted = AcceptPersonalData(
                prepared.dataset.dataset_id, prepared.version.version_id, actor.uid, personal.rows_affected, rows
            )
            await self._handler.handle(accepted, actor=actor)

    async def _usual_preset(
        self, state: SettingsState, model: ModelRow, hardware: Hardware, kind: str
    ) -> tuple[Preset, str]:
        wanted = str(state.get("training.preset"))
        if wanted != CHOOSE_KEY:
            return await self._presets.find(wanted), "The setting training.preset names it."
        return choose_preset(self._presets.built_in, model.facts, hardware, kind)


def _unheard(share: float, text: str) -> None:
    return


def _personal_data(dataset: DatasetRow, found: PersonalData) -> PersonalDataFound:
    kinds = personal_data(msgspec.to_builtins(found.kinds))
    return PersonalDataFound(
        f"The dataset {dataset.name} holds personal data in {found.rows_affected:,} of {found.rows:,} rows ({kinds}), "
        "which the model would learn and may tell anybody.",
        hint=f"`btmctl datasets anonymise {dataset.dataset_id} --preview` shows it; `accept_personal_data: true` (on "
        "the command line: --accept-personal-data) trains on it as it is.",
    )


async def require_training_allowed(handler: CommandHandler, dataset_id: str) -> None:
    """Raises ConsentMissing where nobody allows, at this moment, that the dataset is trained on."""
    state, _ = await handler.state(stream_name(dataset_id))
    if state is None or "train" not in state.consent_scopes:
        raise _not_allowed(dataset_id if state is None else state.name)


def _not_allowed(name: str) -> ConsentMissing:
    return ConsentMissing(
        f"Nobody has allowed that the dataset {name} is used for training.",
        hint="Send `consent: true` (on the command line: --consent, or `btmctl consent grant`) to allow it.",
    )
