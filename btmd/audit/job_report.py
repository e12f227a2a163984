"""What the log tells of one job, from who asked for it to who took its result away; never the text of a row.

Everything is read from the events themselves, so that each statement can be looked up in an export of the log.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from btmd.domain.dataset import (
    ConsentGranted,
    ConsentRevoked,
    DatasetAdded,
    DatasetErased,
    DatasetRemoved,
    DatasetVersionAdded,
    PersonalDataAccepted,
)
from btmd.domain.event import Event
from btmd.domain.forecast import ForecastMade, ForecastRevised, ForecastScored, texts
from btmd.domain.job_events import (
    AnswerAsked,
    AttemptFailed,
    AttemptLost,
    AttemptStarted,
    CheckpointRejected,
    HeldOutLossMeasured,
    JobAnswered,
    JobCancelled,
    JobCompleted,
    JobFailed,
    JobSubmitted,
    JobUnanswered,
    RecoveryPlanned,
    TrainerNoticed,
)
from btmd.domain.model import ModelAdded, ModelHashed, ModelVerified
from btmd.domain.ownership import ThingShared, ThingTransferred, ThingUnshared
from btmd.domain.settings import SettingChanged
from btmd.domain.use import JobExported, JobTalkedWith
from btmd.store.recorded import Recorded

ENDINGS = (JobCompleted, JobFailed, JobCancelled)
OF_RECOVERY = (AttemptFailed, AttemptLost, RecoveryPlanned, AnswerAsked, JobAnswered, JobUnanswered, CheckpointRejected)
OF_CONSENT = (ConsentGranted, ConsentRevoked, DatasetRemoved, DatasetErased)
OF_OWNERSHIP = (ThingShared, ThingUnshared, ThingTransferred)
TOLD = ("loss", "held_out", "general", "overlap", "exact", "margin", "accuracy")
"""What figures of an outcome begin with that are about how good it is."""


class Streams(Struct, frozen=True):
    """The rows that a report stands on, each stream in the order of its versions. ``ticks``: how many, first, last."""

    job: Sequence[Recorded]
    use: Sequence[Recorded]
    dataset: Sequence[Recorded]
    model: Sequence[Recorded]
    settings: Sequence[Recorded]
    ownership: Sequence[Recorded]
    tick_count: int = 0
    ticks: tuple[Recorded, ...] = ()

    @property
    def submitted(self) -> Recorded:
        return next(row for row in self.job if isinstance(row.event, JobSubmitted))


class Collected:
    """Notes which rows a report has used: they are listed with their hashes."""

    def __init__(self, rows: Iterable[Recorded] = ()) -> None:
        self._rows = {row.seq: row for row in rows}

    def about(self, row: Recorded) -> dict[str, Any]:
        """Who, when, and which event says so."""
        self._rows[row.seq] = row
        actor = row.actor
        return {"event": row.seq, "at_us": row.wall_at_us, "by": {"uid": actor.uid, "name": actor.name}}

    def listed(self) -> list[dict[str, Any]]:
        return [
            {
                "event": row.seq,
                "epoch": row.epoch,
                "stream": row.stream,
                "type": row.type,
                "at_us": row.wall_at_us,
                "by": {"uid": row.actor.uid, "name": row.actor.name},
                "hash": row.hash.hex(),
            }
            for _, row in sorted(self._rows.items())
        ]


def job_report(streams: Streams) -> dict[str, Any]:
    """The report but for what is looked up beside the log: the verdict in words, files on the disk, the log's head."""
    used = Collected(streams.job)
    row = streams.submitted
    submitted = row.event
    assert isinstance(submitted, JobSubmitted)
    body = {
        "job": _job(submitted, row, streams, used),
        "model": _model(submitted, row, streams.model, used),
        "dataset": _dataset(submitted, streams.dataset, used),
        "consent": _consent(row, streams.dataset, used),
        "personal_data": _personal_data(submitted, streams.dataset, used),
        "plan": _plan(submitted),
        "settings": _settings(row, streams.settings, used),
        "forecast": _forecast(streams.job, used),
        "attempts": _attempts(streams.job, used),
        "recoveries": _of(streams.job, OF_RECOVERY, used, without=("job_id", "rows")),
        "notices": _of(streams.job, (TrainerNoticed,), used, without=("job_id", "number")),
        "measurements": _of(streams.job, (HeldOutLossMeasured,), used, without=("job_id", "number", "seconds")),
        "result": _result(streams.job, used),
        "exports": _of(streams.use, (JobExported,), used, without=("job_id", "by_uid")),
        "chats": _chats(streams.use, used),
    }
    return {**body, "ticks": _ticks(streams), "events": used.listed()}


def _job(submitted: JobSubmitted, row: Recorded, streams: Streams, used: Collected) -> dict[str, Any]:
    ended = next((one for one in reversed(streams.job) if isinstance(one.event, ENDINGS)), None)
    return {
        "job_id": submitted.job_id,
        "name": submitted.name,
        "description": submitted.custom_description,
        "preset": submitted.preset,
        "asked": used.about(row),
        "ended": None if ended is None else used.about(ended),
        "owners": [
            {"type": one.type, **_values(one.event, without=("kind", "thing_id", "made_us")), **used.about(one)}
            for one in streams.ownership
            if isinstance(one.event, OF_OWNERSHIP)
        ],
    }


def _model(submitted: JobSubmitted, row: Recorded, rows: Sequence[Recorded], used: Collected) -> dict[str, Any]:
    added = _last(rows, ModelAdded, row.seq)
    told: dict[str, Any] = {"model_id": submitted.model_id, "added": None, "files": {}, "hashed": None, "verified": []}
    told["fingerprint"] = str(submitted.trainer_plan.get("model_fingerprint") or "")
    if added is not None:
        assert isinstance(added.event, ModelAdded)
        facts = msgspec.to_builtins(added.event.facts)
        names = ("architecture", "parameters", "dtype", "size_bytes", "license", "quantised")
        told |= {"added": used.about(added), "name": added.event.name, **{name: facts[name] for name in names}}
        told["fingerprint"] = told["fingerprint"] or facts["fingerprint"]
    after_us = added.seq if added is not None else 0
    hashed = next((one for one in rows if isinstance(one.event, ModelHashed) and one.seq > after_us), None)
    if hashed is not None:
        assert isinstance(hashed.event, ModelHashed)
        told |= {"files": dict(hashed.event.files), "hashed": used.about(hashed)}
    told["verified"] = _of(rows, (ModelVerified,), used, without=("model_id",))
    return told


def _dataset(submitted: JobSubmitted, rows: Sequence[Recorded], used: Collected) -> dict[str, Any]:
    """The version that was learned from, with those that it was made from."""
    versions: dict[str, tuple[Recorded, DatasetVersionAdded]] = {}
    added: Recorded | None = None
    for row in rows:
        if isinstance(row.event, DatasetVersionAdded):
            versions[row.event.version_id] = (row, row.event)
        elif isinstance(row.event, DatasetAdded) and row.seq < _until(rows, submitted):
            added = row
    chain: list[dict[str, Any]] = []
    version_id: str | None = submitted.dataset_version
    while version_id in versions and all(one["version_id"] != version_id for one in chain):
        row, version = versions[version_id]
        chain.append(
            {
                "version_id": version.version_id,
                "made": version.made,
                "rows": version.rows,
                "size_bytes": version.size_bytes,
                "source_sha256": version.source_sha256,
                "rows_sha256": version.rows_sha256,
                "changes": _counts(version.changes),
                **used.about(row),
            }
        )
        version_id = version.parent
    told: dict[str, Any] = {
        "dataset_id": submitted.dataset_id,
        "version_id": submitted.dataset_version,
        "rows_sha256": str(submitted.trainer_plan.get("rows_sha256") or ""),
        "anonymised": any(one["made"] == "anonymise" for one in chain),
        "versions": chain,
        "added": None,
    }
    if added is not None:
        assert isinstance(added.event, DatasetAdded)
        told |= {"name": added.event.name, "source_name": added.event.source_name, "added": used.about(added)}
    return told


def _until(rows: Sequence[Recorded], submitted: JobSubmitted) -> int:
    """Behind the last event of the version's registration: a dataset may be removed and added again."""
    found = [
        row.seq
        for row in rows
        if isinstance(row.event, DatasetVersionAdded) and row.event.version_id == submitted.dataset_version
    ]
    return found[-1] + 1 if found else 2**62


def _counts(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of it: line numbers and the rest are in the log."""
    found: dict[str, Any] = {}
    for name, value in changes.items():
        if isinstance(value, int | float):
            found[name] = value
        elif isinstance(value, Mapping) and value and all(isinstance(one, int | float) for one in value.values()):
            found[name] = dict(value)
    return found


def _consent(submitted: Recorded, rows: Sequence[Recorded], used: Collected) -> dict[str, Any]:
    then: dict[str, Any] = {"scopes": [], "purpose": "", "event": None}
    now: dict[str, Any] = dict(then)
    for row in rows:
        match row.event:
            case ConsentGranted():
                now = {"scopes": list(row.event.scopes), "purpose": row.event.purpose, "event": row.seq}
            case DatasetAdded() | ConsentRevoked() | DatasetErased() | DatasetRemoved():
                now = {"scopes": [], "purpose": "", "event": row.seq}
        if row.seq < submitted.seq:
            then = now
    history = [
        {"type": row.type, **_values(row.event, only=("purpose", "scopes")), **used.about(row)}
        for row in rows
        if isinstance(row.event, OF_CONSENT)
    ]
    return {"when_asked": then, "now": now, "history": history}


def _personal_data(submitted: JobSubmitted, rows: Sequence[Recorded], used: Collected) -> list[dict[str, Any]]:
    return [
        {"rows_affected": row.event.rows_affected, "kinds": dict(row.event.kinds), **used.about(row)}
        for row in rows
        if isinstance(row.event, PersonalDataAccepted) and row.event.version_id == submitted.dataset_version
    ]


def _plan(submitted: JobSubmitted) -> dict[str, Any]:
    plan, trainer = submitted.plan, submitted.trainer_plan
    return {
        "values": {
            name: {field: one.get(field) for field in ("value", "source", "reason")}
            for name, one in {**plan.get("values", {}), **plan.get("fixed", {})}.items()
        },
        "notes": list(plan.get("notes", ())),
        "preset_reason": plan.get("preset_reason", ""),
        "overrides": dict(submitted.overrides),
        "allow": list(submitted.allow),
        "total_steps": plan.get("total_steps"),
        "train_rows": plan.get("train_rows"),
        "held_out_rows": plan.get("held_out_rows"),
        "seed": trainer.get("seed"),
        "device": trainer.get("device"),
        "from_job": plan.get("from_job"),
        "adapter_sha256": plan.get("adapter_sha256"),
        "rerun_of": plan.get("rerun_of"),
    }


def _settings(submitted: Recorded, rows: Sequence[Recorded], used: Collected) -> list[dict[str, Any]]:
    """What differed from the defaults when the job was asked for."""
    newest: dict[str, tuple[Recorded, SettingChanged]] = {}
    for row in rows:
        if row.seq < submitted.seq and isinstance(row.event, SettingChanged):
            newest[row.event.key] = (row, row.event)
    return [
        {"key": key, "value": change.after, **used.about(row)}
        for key, (row, change) in sorted(newest.items())
        if change.after is not None
    ]


def _forecast(rows: Sequence[Recorded], used: Collected) -> dict[str, Any]:
    told: dict[str, Any] = {"made": [], "scores": []}
    for row in rows:
        match row.event:
            case ForecastMade() | ForecastRevised():
                told["made"].append(
                    {"basis": row.event.forecast.basis, "texts": texts(row.event.forecast)} | used.about(row)
                )
            case ForecastScored():
                told["scores"] = [{**msgspec.to_builtins(one), "inside": one.inside} for one in row.event.scores]
    return told


def _attempts(rows: Sequence[Recorded], used: Collected) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for row in rows:
        if isinstance(row.event, AttemptStarted):
            found.append(
                {
                    "attempt": row.event.attempt,
                    "why": row.event.why,
                    "device": row.event.device,
                    "ended_at_us": None,
                    "ended": "",
                    **used.about(row),
                }
            )
        elif found and isinstance(row.event, AttemptFailed | AttemptLost | JobCompleted | JobFailed | JobCancelled):
            found[-1] |= {"ended_at_us": row.wall_at_us, "ended": row.type}
    return found


def _result(rows: Sequence[Recorded], used: Collected) -> dict[str, Any] | None:
    ended = next((row for row in reversed(rows) if isinstance(row.event, ENDINGS)), None)
    if ended is None:
        return None
    told: dict[str, Any] = {"type": ended.type, **used.about(ended)}
    match ended.event:
        case JobCompleted():
            outcome = ended.event.outcome
            figures = {name: value for name, value in outcome.items() if any(one in name for one in TOLD)}
            told |= {"ended_by": ended.event.ended_by, "best_step": outcome.get("best_step"), "figures": figures}
            told["steps"] = outcome.get("steps")
        case JobFailed():
            told |= {"reason": ended.event.reason, "text": ended.event.text}
        case JobCancelled():
            told |= {"reason": ended.event.reason}
    return told


def _chats(rows: Sequence[Recorded], used: Collected) -> dict[str, Any]:
    talks = [row for row in rows if isinstance(row.event, JobTalkedWith)]
    people: dict[str, int] = {}
    for row in talks:
        name = used.about(row)["by"]["name"]
        people[name] = people.get(name, 0) + 1
    return {"messages": len(talks), "by": people}


def _ticks(streams: Streams) -> dict[str, Any]:
    ends = [{"event": row.seq, "hash": row.hash.hex()} for row in streams.ticks]
    return {"count": streams.tick_count, "first": ends[0] if ends else None, "last": ends[-1] if ends else None}


def _of(
    rows: Sequence[Recorded], kinds: tuple[type[Event], ...], used: Collected, *, without: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    return [
        {"type": row.type, **_values(row.event, without=without), **used.about(row)}
        for row in rows
        if isinstance(row.event, kinds)
    ]


def _values(happened: Event, *, without: tuple[str, ...] = (), only: tuple[str, ...] = ()) -> dict[str, Any]:
    values: dict[str, Any] = msgspec.to_builtins(happened)
    return {name: value for name, value in values.items() if name not in without and (not only or name in only)}


def _last(rows: Sequence[Recorded], kind: type[Event], before: int) -> Recorded | None:
    return next((row for row in reversed(rows) if isinstance(row.event, kind) and row.seq < before), None)
