"""Restores: read then and now, plan, and apply in one transaction across all streams."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio.to_thread
from msgspec import Struct
from msgspec.structs import replace

from btmd.accounts import why_missing
from btmd.command_handler import CommandHandler
from btmd.domain import access, preset_definition, settings
from btmd.domain.commands import ACCESS, PRESETS, SETTINGS
from btmd.domain.dataset import ConsentRevoked, DatasetErased, DatasetVersionAdded
from btmd.domain.event import Actor
from btmd.domain.model import ModelAdded
from btmd.domain.restore import (
    STREAM,
    Manner,
    Past,
    Registration,
    RestoreCompleted,
    RestorePlan,
    RestoreStarted,
    plan_consent,
    plan_registration,
    plan_settings,
    registration,
)
from btmd.domain.restore_definitions import plan_access, plan_preset
from btmd.domain.settings import SettingsState
from btmd.errors import InvalidValue, LogMovedOn
from btmd.history import History
from btmd.presets.reading import why_unusable
from btmd.projections.job import unfinished_jobs
from btmd.registry.content import ContentStore
from btmd.registry.contents_in_use import ContentsInUse
from btmd.restoring.target import LogTarget, RestoreTarget, known
from btmd.store.errors import VersionConflict
from btmd.store.event_log import IdempotencyKey, Recorded, Store, StreamAppend
from btmd.store.past import newest_rows, streams_of

MAX_ATTEMPTS = 20
_PREFIXES = {"models": "model-", "datasets": "dataset-"}


class Prepared(Struct, frozen=True):
    """A plan and what it rests on: the head before it was made, and the version of each stream it read."""

    target: RestoreTarget
    head_seq: int
    manner: Manner
    plan: RestorePlan
    versions: dict[str, int]
    newest_seq: int


class Done(Struct, frozen=True):
    """What a restore did; ``rows`` are empty where nothing had to change."""

    prepared: Prepared
    restore_id: str
    rows: list[Recorded]


class Restoring:
    """Plans and applies restores; never touches a job or anything that one at work needs."""

    def __init__(
        self,
        store: Store,
        handler: CommandHandler,
        history: History,
        contents: ContentStore,
        in_use: ContentsInUse,
        new_id: Callable[[], str],
    ) -> None:
        self._store = store
        self._handler = handler
        self._history = history
        self._contents = contents
        self._in_use = in_use
        self._new_id = new_id

    async def prepare(self, to: RestoreTarget | int, manner: Manner, by_uid: int) -> Prepared:
        """What a restore to an earlier state, or to that after an event of this log, would do. Raises InvalidValue."""
        target = LogTarget(self._history, to) if isinstance(to, int) else to
        head_seq = self._store.head.seq
        plan, versions, newest = RestorePlan(), {}, 0
        manner = _held_by(target, manner, plan)
        if "settings" in manner.components:
            state, version = await self._handler.state(settings.STREAM)
            versions[settings.STREAM] = version
            newest = await self._newest_seq(settings.STREAM)
            then = await target.state(settings.STREAM, SETTINGS) or SettingsState()
            current = (state or SettingsState()).values
            plan_settings(plan, current, then.values, manner, f"restore to {in_words(target)}")
        newest = max(newest, await self._plan_definitions(plan, versions, target, manner))
        needed = await self._needed()
        for component, prefix in _PREFIXES.items():
            consent = component == "datasets" and "consent" in manner.components
            if component not in manner.components and not consent:
                continue
            present = await self._store.query(lambda connection, p=prefix: streams_of(connection, p))  # type: ignore[misc]
            for stream in sorted({*present, *target.streams(prefix)}):
                rows = await self._store.read_stream(stream)
                versions[stream] = rows[-1].version if rows else 0
                newest = max(newest, rows[-1].seq if rows else 0)
                past = _past(component, stream, stream.removeprefix(prefix), rows, target, needed)
                if component in manner.components:
                    plan_registration(plan, past, manner, partial(self._missing, target))
                if consent:
                    plan_consent(plan, past, manner, by_uid)
        return Prepared(target, head_seq, manner, plan, versions, newest)

    async def _plan_definitions(
        self, plan: RestorePlan, versions: dict[str, int], target: RestoreTarget, manner: Manner
    ) -> int:
        """Own presets and access; the newest event that was looked at."""
        why, newest = f"restore to {in_words(target)}", 0
        if "presets" in manner.components:
            present = await self._store.query(lambda connection: streams_of(connection, preset_definition.PREFIX))
            for stream in sorted({*present, *target.streams(preset_definition.PREFIX)}):
                state, versions[stream] = await self._handler.state(stream)
                newest = max(newest, await self._newest_seq(stream))
                then = await target.state(stream, PRESETS)
                key = stream.removeprefix(preset_definition.PREFIX)
                now, past = state and state.preset, then and then.preset
                plan_preset(plan, key, now, past, manner, why, why_unusable)
        if "access" in manner.components:
            state, versions[access.STREAM] = await self._handler.state(access.STREAM)
            newest = max(newest, await self._newest_seq(access.STREAM))
            then = await target.state(access.STREAM, ACCESS) or access.AccessState()
            rows = await self._store.read_stream(access.STREAM)
            withdrawn = access.withdrawn(known(row.event for row in rows if not target.knows(row)))
            grants = (state or access.AccessState()).grants
            plan_access(plan, grants, then.grants, withdrawn, manner, why, why_missing)
        return newest

    async def restore(
        self,
        to: RestoreTarget | int,
        manner: Manner,
        *,
        actor: Actor,
        expected_head: int | None = None,
        force: bool = False,
        idempotency: IdempotencyKey | None = None,
        respond: Callable[[Done], bytes] | None = None,
    ) -> Done:
        """Plan and apply. With ``expected_head``, only if nothing of it changed after that event, or with ``force``.

        Raises InvalidValue, LogMovedOn, RestoreConflict, VersionConflict where others never stop changing the same
        things, and what is wrong with a file that a backup was to bring back.
        """
        head_seq = self._store.head.seq
        if expected_head is not None and expected_head > head_seq:
            # A number of another log, or a slip: it would let everything through.
            raise InvalidValue(
                f"There is no event {expected_head} yet: the log ends at {head_seq}.",
                hint="Take the number from a preview with --dry-run.",
            )
        for attempt in range(1, MAX_ATTEMPTS + 1):
            prepared = await self.prepare(to, manner, actor.uid)
            if expected_head is not None and prepared.newest_seq > expected_head and not force:
                raise LogMovedOn(
                    f"Something was changed after event {expected_head}, at event {prepared.newest_seq}.",
                    hint="Look at a new preview with --dry-run, or give --force.",
                )
            prepared.plan.require_settled()
            try:
                with self._in_use.bringing_back():
                    await self._bring_contents_back(prepared)
                    return await self._apply(prepared, actor, expected_head, force, idempotency, respond)
            except VersionConflict:
                # Changed between the plan and its transaction: planned again on what is there now.
                if attempt == MAX_ATTEMPTS:
                    raise
        raise AssertionError("not reached")

    async def _apply(
        self,
        prepared: Prepared,
        actor: Actor,
        expected_head: int | None,
        force: bool,
        idempotency: IdempotencyKey | None,
        respond: Callable[[Done], bytes] | None,
    ) -> Done:
        plan, manner, restore_id = prepared.plan, prepared.manner, self._new_id()[:10]
        target = prepared.target
        changed: dict[str, int] = {}
        for one in plan.changes:
            changed[one.component] = changed.get(one.component, 0) + 1
        started = RestoreStarted(
            restore_id,
            target.seq,
            manner.components,
            manner.mode,
            manner.prefer,
            expected_head,
            force,
            target.backup_id,
        )
        completed = RestoreCompleted(restore_id, changed, tuple(plan.left_alone))
        appends = [
            StreamAppend(STREAM, (started,)),
            *(
                StreamAppend(stream, tuple(events), prepared.versions[stream])
                for stream, events in plan.events.items()
                if events
            ),
            StreamAppend(STREAM, (completed,)),
        ]
        appended = await self._store.commit(
            appends if plan.changes else [],
            actor=actor,
            correlation_id=restore_id,
            idempotency=idempotency,
            response=None if respond is None else lambda rows: respond(Done(prepared, restore_id, rows)),
        )
        return Done(prepared, restore_id, appended.events)

    async def _newest_seq(self, stream: str) -> int:
        rows = await self._store.query(lambda connection: newest_rows(connection, stream, 1))
        return rows[0].seq if rows else 0

    async def _needed(self) -> dict[tuple[str, str], str]:
        """By component and id, the unfinished job that needs it."""
        async with self._store.session() as session:
            jobs = await unfinished_jobs(session)
        return {key: job.job_id for job in jobs for key in (("models", job.model_id), ("datasets", job.dataset_id))}

    async def _bring_contents_back(self, prepared: Prepared) -> None:
        """Files that the planned registrations need come before them: none of them is ever without."""
        planned = (one for events in prepared.plan.events.values() for one in events)
        versions = [one for one in planned if isinstance(one, DatasetVersionAdded)]
        named = {one.rows_sha256 for one in versions}
        # The lists first, as they tell which chunks are wanted.
        for wanted in (named, self._contents.with_chunks):
            names = wanted if isinstance(wanted, set) else wanted(named)
            held = sorted(one for one in names if one in prepared.target.contents)
            gone = [one for one in held if not await anyio.to_thread.run_sync(self._contents.is_intact, one)]
            if gone:
                await prepared.target.bring_back(gone)

    def _missing(self, target: RestoreTarget, then: Registration) -> str:
        """Which files of a registration are gone, in words."""
        for one in then.events:
            if isinstance(one, ModelAdded) and not Path(one.folder).is_dir():
                return f"its folder {one.folder} is gone"
            if isinstance(one, DatasetVersionAdded) and not (
                self._contents.whole(one.rows_sha256) or one.rows_sha256 in target.contents
            ):
                return "its contents are gone"
        return ""


def in_words(target: RestoreTarget) -> str:
    """Which state it is, for people."""
    return f"the backup {target.backup_id}" if target.backup_id else f"event {target.seq}"


def _held_by(target: RestoreTarget, manner: Manner, plan: RestorePlan) -> Manner:
    """The manner without the parts that the target knows nothing of, which the plan names. Raises InvalidValue."""
    left = tuple(name for name in manner.components if name in target.held)
    if not left:
        raise InvalidValue(
            f"Nothing of this is in {in_words(target)}: it holds {', '.join(sorted(target.held)) or 'no such part'}.",
            hint=f"`btmctl backup show {target.backup_id}` tells what is in it.",
        )
    plan.left_alone += [
        f"{name}: not in {in_words(target)}, so it stays as it is" for name in manner.components if name not in left
    ]
    return replace(manner, components=left)


async def registered_contents(store: Store) -> set[str]:
    """The SHA-256 of all rows of the datasets that are registered, read from the log itself."""
    found: set[str] = set()
    for stream in await store.query(lambda connection: streams_of(connection, _PREFIXES["datasets"])):
        rows = await store.read_stream(stream)
        now = registration(known(row.event for row in rows))
        for one in now.events if now is not None else ():
            if isinstance(one, DatasetVersionAdded):
                found.add(one.rows_sha256)
    return found


def _past(
    component: str,
    stream: str,
    subject: str,
    rows: list[Recorded],
    target: RestoreTarget,
    needed: dict[tuple[str, str], str],
) -> Past:
    return Past(
        component=component,
        subject=subject,
        stream=stream,
        then=registration(target.events(stream, rows)),
        now=registration(known(row.event for row in rows)),
        revoked=any(isinstance(row.event, ConsentRevoked) and not target.knows(row) for row in rows),
        needed_by=needed.get((component, subject), ""),
        erased=any(isinstance(row.event, DatasetErased) and not target.knows(row) for row in rows),
    )
