"""The Python client: a training in a few calls, from a program or a notebook.

It talks to the daemon over its socket, as ``btmctl`` does, and needs neither torch nor the daemon's own packages::

    from btmctl import BasicTrainingMode

    training = BasicTrainingMode()
    job = await training.start_basic_training(model_id="smollm2", dataset_id="faq")
    print(training.get_training_progress(job.job_id).status)
"""

import os
from asyncio import to_thread
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from io import StringIO
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from btmctl.client import Client
from btmctl.errors import CommandError, ServerRefused, Unreachable

if TYPE_CHECKING:
    from btmctl.session import Session

Answer = TypeVar("Answer", bound="_Answer")


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """``more`` holds what the daemon said besides the fields that are promised."""

    more: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, kw_only=True)
class Preset(_Answer):
    """A set of training values with a name; ``verdict`` says whether it fits this machine."""

    name: str
    description: str
    difficulty: str
    training_type: str
    num_epochs: int
    learning_rate: float
    batch_size: int
    max_length: int
    warmup_ratio: float
    use_mixed_precision: bool
    gradient_checkpointing: bool
    recommended_for: list[str]
    estimated_time: str
    memory_requirements_gb: float
    key: str = ""
    verdict: str = ""


@dataclass(frozen=True, kw_only=True)
class Job(_Answer):
    """A training that was accepted. ``status`` is for people, ``state`` for programs."""

    job_id: str
    model_id: str
    status: str
    created_at: str
    message: str
    state: str = ""


@dataclass(frozen=True, kw_only=True)
class PlannedTraining(_Answer):
    """What would run and why, with the forecast; nothing was started."""

    message: str
    plan: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Progress(_Answer):
    """How far a training is. Losses, rate, memory and GPU use are None as long as nobody knows them."""

    job_id: str
    model_name: str
    status: str
    progress_percentage: float
    current_step: int
    total_steps: int
    current_epoch: int
    total_epochs: int
    elapsed_time: str
    estimated_remaining: str
    status_message: str
    warnings: list[str]
    recommendations: list[str]
    current_loss: float | None = None
    best_loss: float | None = None
    learning_rate: float | None = None
    memory_usage_gb: float | None = None
    gpu_utilization: float | None = None
    state: str = ""


@dataclass(frozen=True, kw_only=True)
class Result(_Answer):
    """What came of a training that has ended. ``improvement_percentage`` is that of the held-out loss."""

    job_id: str
    model_name: str
    success: bool
    training_time: str
    performance_summary: str
    recommendations: list[str]
    warnings: list[str]
    next_steps: list[str]
    final_loss: float | None = None
    improvement_percentage: float | None = None
    model_path: str | None = None


@dataclass(frozen=True, kw_only=True)
class Backup(_Answer):
    """A backup of the daemon's log; ``created_at`` is RFC 3339 in UTC."""

    backup_id: str
    created_at: str
    description: str
    backup_path: str
    size_mb: float


class BasicTrainingMode:
    """A daemon to train with: the one at ``socket``, else the first that ``btmctl`` would find.

    Every call raises DaemonUnreachable where none answers, and TrainingRefused with the daemon's ``code``, ``detail``
    and ``hint`` for what it does not do.
    """

    def __init__(self, socket: str | os.PathLike[str] | None = None) -> None:
        self._socket = None if socket is None else os.fspath(socket)

    # --- awaited: what may take a while -----------------------------------------------------------------

    async def get_recommended_presets(self) -> list[Preset]:
        """The presets that fit this machine best, those first that do."""
        return _all(Preset, await to_thread(self._get, "/presets"))

    async def get_preset_for_model(self, model_id: str) -> Preset:
        """The best preset for a model: an id, a name, or an id of the local Hugging Face cache."""
        return _one(Preset, await to_thread(self._get, f"/presets/{model_id}"))

    @overload
    async def start_basic_training(
        self,
        model_id: str,
        dataset_id: str,
        preset_name: str | None = None,
        *,
        custom_description: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        allow: Iterable[str] = (),
        dry_run: Literal[False] = False,
        consent: bool = False,
        accept_personal_data: bool = False,
    ) -> Job: ...

    @overload
    async def start_basic_training(
        self,
        model_id: str,
        dataset_id: str,
        preset_name: str | None = None,
        *,
        custom_description: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        allow: Iterable[str] = (),
        dry_run: Literal[True],
        consent: bool = False,
        accept_personal_data: bool = False,
    ) -> PlannedTraining: ...

    async def start_basic_training(
        self,
        model_id: str,
        dataset_id: str,
        preset_name: str | None = None,
        *,
        custom_description: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        allow: Iterable[str] = (),
        dry_run: bool = False,
        consent: bool = False,
        accept_personal_data: bool = False,
    ) -> Job | PlannedTraining:
        """Start a training, or with ``dry_run`` only say what would run.

        ``preset_name`` is a key or a display name; without one, btmd chooses. ``overrides`` are values of the plan
        (``{"num_epochs": 2}``), ``allow`` what may be changed where it does not fit (``lora``, ``shorter``, ...).
        ``consent`` allows that the dataset is trained on.
        """
        body = {
            "model_id": model_id,
            "dataset_id": dataset_id,
            "preset_name": preset_name,
            "custom_description": custom_description or "",
            "overrides": dict(overrides or {}),
            "allow": list(allow),
            "dry_run": dry_run,
            "consent": consent,
            "accept_personal_data": accept_personal_data,
        }
        answer = await to_thread(self._start, body)
        return _one(PlannedTraining, answer) if dry_run else _one(Job, answer)

    # --- at once --------------------------------------------------------------------------------------

    def get_training_progress(self, job_id: str) -> Progress:
        """How far a training is."""
        return _one(Progress, self._get(f"/progress/{job_id}"))

    def get_training_result(self, job_id: str) -> Result | None:
        """What came of it; None while it has not ended."""
        try:
            return _one(Result, self._get(f"/result/{job_id}"))
        except TrainingRefused as refused:
            if refused.code == "no_result_yet":
                return None
            raise

    def cancel_training(self, job_id: str) -> bool:
        """End a training without a result; False where it had ended already."""
        try:
            self._post(f"/cancel/{job_id}", {})
        except TrainingRefused as refused:
            if refused.code == "job_ended":
                return False
            raise
        return True

    def create_system_backup(self, description: str = "Manual backup") -> Backup:
        """Make a backup of everything; only what is new since the one before is written."""
        return _one(Backup, self._post("/backup", {"description": description}))

    def list_system_backups(self) -> list[Backup]:
        """All backups, newest first."""
        return _all(Backup, self._get("/backups"))

    def restore_system_backup(self, backup_id: str) -> bool:
        """Bring settings, presets and registrations back to a backup's state; it can be undone by another restore."""
        self._post("/restore", {"backup_id": backup_id})
        return True

    def delete_system_backup(self, backup_id: str) -> bool:
        """Delete a backup, with what no other one needs."""
        self._call(lambda client: client.delete(f"/backup/{backup_id}"))
        return True

    def reset_to_factory_defaults(self, preserve_user_data: bool = True) -> bool:
        """Settings as at the first start; without ``preserve_user_data`` datasets, models and jobs go too.

        A backup is made first.
        """
        self._post("/reset", {"preserve_user_data": preserve_user_data})
        return True

    # --- underneath -----------------------------------------------------------------------------------

    def _start(self, body: dict[str, Any]) -> Any:
        try:
            return self._post("/start", body)
        except TrainingRefused as refused:
            # A daemon of another user does not see this user's cache: what is found there is sent.
            if refused.code != "model_not_found" or not self._brought(body["model_id"]):
                raise
        return self._post("/start", body)

    def _brought(self, model_id: str) -> bool:
        """Whether this is an id of the user's own Hugging Face cache; then it is registered now."""
        from btmctl import sources

        session = self._session()
        folder = sources.in_hub_cache(model_id, session)
        if folder is None:
            return False
        self._call(lambda client: sources.add_model(folder, session, name=model_id))
        return True

    def _get(self, path: str) -> Any:
        return self._call(lambda client: client.get(path))

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        return self._call(lambda client: client.post(path, body))

    def _call(self, ask: Callable[[Client], Any]) -> Any:
        try:
            return ask(self._client())
        except ServerRefused as refused:
            raise TrainingRefused(refused) from None
        except Unreachable as missing:
            raise DaemonUnreachable(missing) from None
        except CommandError as wrong:
            raise BtmdError(wrong) from None

    def _client(self) -> Client:
        # Looked for each time: the daemon may have been started meanwhile, or moved to where it is tried first.
        return self._session().find_client()

    def _session(self) -> "Session":
        from btmctl.output import Output
        from btmctl.session import Session

        # What a program shows and asks is its own affair.
        return Session(Output(as_json=True, stderr=StringIO()), socket=self._socket, yes=False)


class BtmdError(Exception):
    """``code`` is stable, ``detail`` a sentence, ``hint`` what to do next."""

    def __init__(self, error: CommandError) -> None:
        super().__init__(f"{error.why or error.what} {error.hint}".strip())
        self.code = error.code
        self.detail = error.why or error.what
        self.hint = error.hint


class DaemonUnreachable(BtmdError):
    """No daemon answers."""


class TrainingRefused(BtmdError):
    """The daemon does not do it; ``status`` is that of HTTP."""

    def __init__(self, error: ServerRefused) -> None:
        super().__init__(error)
        self.status = error.status


def _one(kind: type[Answer], document: Mapping[str, Any]) -> Answer:
    known = {one.name for one in fields(kind)} - {"more"}
    more = {name: value for name, value in document.items() if name not in known}
    return kind(**{name: value for name, value in document.items() if name in known}, more=more)


def _all(kind: type[Answer], documents: Iterable[Mapping[str, Any]]) -> list[Answer]:
    return [_one(kind, one) for one in documents]
