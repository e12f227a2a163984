"""Exports: a job's result written by a child into the state folder, from where who asked fetches it."""

import os
import shutil
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec
from msgspec import Struct

from btmd.child.caller import ask_child
from btmd.command_handler import CommandHandler
from btmd.domain.event import Actor
from btmd.domain.model import ModelFacts
from btmd.domain.use import RecordExport
from btmd.errors import Conflict, FileMissing, InvalidValue, ModelNotFound, NotEnoughDisk, NotEnoughMemory
from btmd.exporting.requests import ExportFacts, ExportRequest, Format, Quant
from btmd.fair_turns import FairTurns
from btmd.hardware.memory import read_memory
from btmd.inspection.requests import aside
from btmd.job_folder import TrainerPlan
from btmd.jobs.disk_room import free_bytes
from btmd.jobs.model_card import CardFacts, model_card
from btmd.jobs.outcome import evidence_of, job_result
from btmd.jobs.report import JobReport, read_report, result_folder, warnings_of
from btmd.jobs.uses import lacking, require_use_allowed
from btmd.naming import find_model, slug
from btmd.projections.dataset import DatasetRow, version
from btmd.projections.job import JobRow
from btmd.store.event_log import Store

OnProgress = Callable[[float, str], None]
RequireRoom = Callable[[int], Awaitable[None]]
DEADLINE_S = 6 * 3600.0
KEPT_S = 24 * 3600.0
"""How long an export waits to be fetched."""
SPARE_BYTES = 512 * 1024 * 1024


class NotExportable(Conflict):
    code, title = "not_exportable", "The job has nothing that could be taken away"


class Wanted(Struct, frozen=True):
    """What somebody asked for. ``system``: of an Ollama model, what it is told before each conversation."""

    format: Format
    quant: Quant = "q8_0"
    system: str = ""
    temperature: float = 0.0


class Export(Struct, frozen=True):
    """What stands ready to be fetched."""

    export_id: str
    job_id: str
    name: str
    wanted: Wanted
    facts: ExportFacts


class Prepared(Struct, frozen=True):
    """An export before it is made. ``consent_needed``: datasets with which nobody allowed it yet."""

    name: str
    size_bytes: int
    consent_needed: tuple[str, ...]


class Exporting(Struct, frozen=True):
    """Makes exports. ``folder`` holds those on their way; ``reserve_bytes`` of the disk stay free."""

    store: Store
    handler: CommandHandler
    jobs_dir: Path
    folder: Path
    reserve_bytes: int
    turn: FairTurns

    async def make(
        self,
        row: JobRow,
        wanted: Wanted,
        export_id: str,
        actor: Actor,
        on_progress: OnProgress,
        require_room: RequireRoom,
    ) -> Export:
        """Write and check an export, and record it. ``require_room`` raises where the user may not take so much more.

        Raises NotExportable, ConsentMissing, NotEnoughDisk, NotEnoughMemory, WrongArchitecture, Damaged, ChildFailed.
        """
        await require_use_allowed(self.store, row, scope="export")
        request, facts = await self._request(row, wanted, export_id)
        async with self.turn.turn():
            # Whatever was waiting: consent may be gone by now, and the room taken.
            await require_use_allowed(self.store, row, scope="export")
            await anyio.to_thread.run_sync(self._require_room, request, facts)
            await require_room(_written_bytes(request, _parameters(request, facts)))
            written = await self._run(request, on_progress)
            try:
                # It takes minutes: what was taken back meanwhile is not handed out either.
                await require_use_allowed(self.store, row, scope="export")
                await self._record(row, wanted, export_id, actor, written)
            except BaseException:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(self.remove, export_id)
                raise
        return Export(export_id, row.job_id, request.name, wanted, written)

    async def prepare(self, row: JobRow, wanted: Wanted) -> Prepared:
        """What an export would be called and which consents it needs first. Raises what `make` would at its start."""
        needed = await lacking(self.store, row, "export")
        request, facts = await self._request(row, wanted, "")
        await anyio.to_thread.run_sync(self._require_room, request, facts)
        size_bytes = _written_bytes(request, _parameters(request, facts))
        return Prepared(request.name, size_bytes, tuple(needed))

    async def _request(self, row: JobRow, wanted: Wanted, export_id: str) -> tuple[ExportRequest, ModelFacts | None]:
        result = result_folder(row, self.jobs_dir)
        if result is None:
            raise NotExportable(
                f"The job {row.job_id} has no result: it is {row.state}.",
                hint=f"`btmctl jobs show {row.job_id}` says more; `btmctl jobs stop` keeps what one has learned.",
            )
        report = await read_report(self.store, row)
        facts = await self._model_facts(row)
        plan = msgspec.convert({**report.trainer_plan, **row.changes}, TrainerPlan)
        for needed in (result, *([Path(plan.model_folder)] if plan.trains_adapter else [])):
            if not needed.is_dir():
                raise FileMissing(f"{needed} is not there any more.", hint="`btmctl models list` shows what there is.")
        self._require_form(row, wanted, plan)
        name = _name_of(row)
        request = ExportRequest(
            format=wanted.format,
            folder=str(self.folder / export_id),
            base=plan.model_folder,
            result=str(result),
            is_adapter=plan.trains_adapter,
            base_name=row.model_id,
            name=name,
            training_type=plan.training_type,
            max_length=plan.max_length,
            submitted_us=plan.submitted_us,
            rows=plan.rows_path,
            card=model_card(await self._card_facts(row, report, facts, result, name)),
            quant=wanted.quant,
            license=facts.license if facts is not None else "",
            system=wanted.system,
            temperature=wanted.temperature,
        )
        return request, facts

    def path(self, export_id: str, name: str) -> Path | None:
        """A file of an export; None where there is none of that name."""
        folder = self.folder / export_id
        path = (folder / name).resolve()
        return path if path.is_relative_to(folder.resolve()) and path.is_file() else None

    def remove(self, export_id: str) -> None:
        """Take an export away; it may not be there."""
        shutil.rmtree(self.folder / export_id, ignore_errors=True)

    def _require_form(self, row: JobRow, wanted: Wanted, plan: TrainerPlan) -> None:
        if wanted.format == "adapter" and not plan.trains_adapter:
            raise NotExportable(
                f"The job {row.job_id} trained the whole model: there is no adapter.",
                hint=f"`btmctl jobs export {row.job_id} --format merged` writes the model.",
            )

    async def _run(self, request: ExportRequest, on_progress: OnProgress) -> ExportFacts:
        succeeded = False
        try:
            found = await ask_child("btmd.exporting", request, ExportFacts, on_progress, deadline_s=DEADLINE_S)
            succeeded = True
            return found
        finally:
            if not succeeded:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(_clear, Path(request.folder))

    async def _record(self, row: JobRow, wanted: Wanted, export_id: str, actor: Actor, written: ExportFacts) -> None:
        quant = wanted.quant if wanted.format in ("gguf", "ollama") else ""
        files = tuple(msgspec.to_builtins(one) for one in written.files)
        check = {} if written.check is None else msgspec.to_builtins(written.check)
        command = RecordExport(row.job_id, export_id, wanted.format, quant, actor.uid, files, check)
        await self.handler.handle(command, actor=actor)

    async def _model_facts(self, row: JobRow) -> ModelFacts | None:
        async with self.store.session() as session:
            try:
                return (await find_model(session, row.model_id)).facts
            except ModelNotFound:
                return None

    def _require_room(self, request: ExportRequest, facts: ModelFacts | None) -> None:
        """Before anything is begun. Raises NotEnoughDisk, NotEnoughMemory."""
        parameters = _parameters(request, facts)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        forget(self.folder, KEPT_S)
        needed = int(_written_bytes(request, parameters) * 1.02) + 16 * 1024 * 1024
        free = free_bytes(self.folder) - self.reserve_bytes
        if free < needed:
            raise NotEnoughDisk(
                f"The export takes {needed / 1e9:.1f} GB on its way, and {max(0, free) / 1e9:.1f} GB may be used.",
                hint="`btmctl disk` shows what takes room; a smaller form is --format adapter, or gguf with q8_0.",
            )
        memory = int(2.5 * parameters) + SPARE_BYTES
        available = read_memory().available_bytes
        if request.format != "card" and available < memory:
            raise NotEnoughMemory(
                f"To check the export the model has to be loaded: that takes {memory / 1e9:.1f} GB, and "
                f"{available / 1e9:.1f} GB are free.",
                hint="Close other programs, or wait until a training has ended (`btmctl queue list`).",
            )

    async def _card_facts(
        self, row: JobRow, report: JobReport, facts: ModelFacts | None, result: Path, name: str
    ) -> CardFacts:
        async with self.store.session() as session:
            dataset = await session.get(DatasetRow, row.dataset_id)
            taken = await version(session, row.dataset_id, row.dataset_version)
        told = await job_result(self.store, row, self.jobs_dir)
        seen = evidence_of(report, [])
        plan: dict[str, Any] = {**report.trainer_plan, **row.changes}
        return CardFacts(
            title=row.name or name,
            job_id=row.job_id,
            base=row.model_id,
            architecture=facts.architecture if facts is not None else "of a kind not known any more",
            license=facts.license if facts is not None else "",
            quantised=facts.quantised if facts is not None else "",
            is_adapter=plan.get("lora") is not None or bool(plan.get("adapter_folder")),
            dataset_id=row.dataset_id,
            dataset_version=row.dataset_version,
            rows_sha256=str(plan["rows_sha256"]),
            rows=taken.rows if taken is not None else None,
            purpose=dataset.purpose if dataset is not None else "",
            consent_scopes=dataset.scopes if dataset is not None else (),
            made=taken.made if taken is not None else "",
            settings=plan,
            steps=int(row.outcome.get("steps") or row.step),
            ended_by=row.ended_by,
            summary=told.performance_summary,
            before=seen.before,
            after=seen.after,
            low=seen.low,
            high=seen.high,
            general_before=seen.general_before,
            general_after=seen.general_after,
            account=told.account,
            warnings=warnings_of(report),
            versions=await anyio.to_thread.run_sync(_versions, result),
            trained_on=datetime.fromtimestamp((row.ended_us or row.updated_us) / 1e6, UTC).strftime("%Y-%m-%d"),
        )


def _name_of(row: JobRow) -> str:
    """The beginning of the names of files; the job's id in it keeps two apart."""
    try:
        return f"{slug(row.name or row.model_id.rpartition('/')[2])}-{row.job_id}"
    except InvalidValue:
        return row.job_id


def forget(folder: Path, older_than_s: float) -> None:
    """Remove exports that nobody fetched for so long; with 0, all of them."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if time.time() - path.lstat().st_mtime >= older_than_s:
            shutil.rmtree(path, ignore_errors=True)


def _clear(folder: Path) -> None:
    shutil.rmtree(aside(str(folder)), ignore_errors=True)
    for left in folder.parent.glob(f"*{folder.name}*"):
        shutil.rmtree(left, ignore_errors=True)


def _parameters(request: ExportRequest, facts: ModelFacts | None) -> int:
    if facts is not None:
        return facts.parameters
    folder = Path(request.base if request.is_adapter else request.result)
    return sum(path.stat().st_size for path in folder.glob("*.safetensors")) // 2


def _written_bytes(request: ExportRequest, parameters: int) -> int:
    if request.format == "card":
        return 0
    if request.format == "adapter":
        return sum(one.stat().st_size for one in os.scandir(request.result) if one.is_file())
    if request.format == "merged" or request.quant == "f16":
        return 2 * parameters
    return parameters * 34 // 32


def _versions(result: Path) -> dict[str, str]:
    try:
        return dict(msgspec.json.decode((result / "training.json").read_bytes())["versions"])
    except (OSError, msgspec.DecodeError, KeyError, TypeError, ValueError):
        return {}
