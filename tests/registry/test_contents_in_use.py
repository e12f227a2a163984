"""What may leave the disk: nothing that is named, held, being sent or fresh, and everything else."""

import hashlib
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.from_thread
import pytest
from msgspec.structs import replace

from btmd.data.row_chunks import RowsWriter, read_list
from btmd.domain.dataset import DatasetAdded, DatasetErased, DatasetVersionAdded
from btmd.errors import Conflict, FileMissing
from btmd.projections.views import ALL_PROJECTIONS
from btmd.registry.content import ContentStore, UploadUnderWay
from btmd.registry.content_sweep import ContentSweep
from btmd.registry.contents_in_use import ContentsInUse
from btmd.registry.inspector import Inspector
from btmd.registry.sources import Source, SourceReading
from btmd.store.event_log import Store, StreamAppend
from tests.store.given import ACTOR, opened

LATER_S = math.inf
MINE, THEIRS = ACTOR.uid, ACTOR.uid + 1


class Place:
    """A content store on an open log."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self.folder = store, folder
        self.contents = ContentStore(folder / "content")
        self.contents.create()
        self.in_use = ContentsInUse(store, self.contents)

    async def sent(self, content: bytes, *, by_uid: int = MINE) -> str:
        async def chunks() -> AsyncIterator[bytes]:
            yield content

        sha256 = hashlib.sha256(content).hexdigest()
        await self.contents.receive(sha256, chunks(), by_uid=by_uid, offset=0, limit_bytes=10**9, reserve_bytes=0)
        return sha256

    def half_sent(self, content: bytes) -> Path:
        """What is there of an upload that was cut off."""
        path = self.folder / "content" / "partial" / f"{hashlib.sha256(content).hexdigest()}.{MINE}"
        path.write_bytes(content[: len(content) // 2])
        return path

    def rows(self, text: str) -> str:
        """Rows in chunks, in the content store; the name of their list."""
        path = self.contents.working_file(text)
        with RowsWriter(path) as writer:
            for line in range(1, 2000):
                writer.write({"line": line, "text": f"{text} {line} {hashlib.sha256(b'%d' % line).hexdigest() * 30}"})
            sha256 = writer.finish().sha256
        self.contents.adopt_rows(path, sha256)
        assert len(self.contents.chunks(sha256)) > 1
        return sha256

    async def register(self, rows_sha256: str, dataset_id: str = "faq", version_id: str = "v1") -> None:
        version = DatasetVersionAdded(dataset_id, version_id, "0" * 64, rows_sha256, 1, 1, {}, {})
        added = DatasetAdded(dataset_id, dataset_id, MINE, "faq.jsonl")
        await self.store.append([StreamAppend(f"dataset-{dataset_id}", (added, version))], actor=ACTOR)

    def there(self) -> set[str]:
        return {path.name for path in (self.folder / "content").rglob("*") if path.is_file()}

    async def sweep(self, before_s: float = LATER_S) -> int:
        return await self.in_use.sweep(before_s, set())


@asynccontextmanager
async def place_in(folder: Path) -> AsyncIterator[Place]:
    async with opened(folder, projections=ALL_PROJECTIONS) as store:
        yield Place(store, folder)


async def test_uploads_that_nothing_came_of_leave_once_they_are_old(tmp_path: Path) -> None:
    async with place_in(tmp_path) as place:
        rows = place.rows("named")
        await place.register(rows)
        named = place.there()
        await place.sent(b"whole")
        place.half_sent(b"half an upload")
        (place.contents.working_file("left") / "deeper").mkdir(parents=True)
        before = place.there()
        assert await place.sweep(time.time() - 60) == 0
        assert place.there() == before
        assert await place.sweep() == 3
        assert place.there() == named
        assert place.contents.whole(rows)


async def test_what_is_held_or_being_sent_or_only_in_the_log_stays(tmp_path: Path) -> None:
    async with place_in(tmp_path) as place:
        held, registered = await place.sent(b"held"), place.rows("not shown")
        going_on = b"comes in two parts"
        cut_off, further = anyio.Event(), anyio.Event()

        async def slowly() -> AsyncIterator[bytes]:
            yield going_on[:5]
            cut_off.set()
            await further.wait()
            yield going_on[5:]

        async def send() -> None:
            name = hashlib.sha256(going_on).hexdigest()
            await place.contents.receive(name, slowly(), by_uid=MINE, offset=0, limit_bytes=10**9, reserve_bytes=0)

        async with anyio.create_task_group() as tasks, place.in_use.holding(held):
            tasks.start_soon(send)
            await cut_off.wait()
            with pytest.raises(UploadUnderWay):
                await place.sent(going_on)
            await place.in_use.sweep(LATER_S, {registered})
            assert place.contents.has(held)
            assert place.contents.whole(registered)
            further.set()
        assert place.contents.sent_by(hashlib.sha256(going_on).hexdigest(), MINE)
        assert not place.contents.has(held), "its work is over"


async def test_what_work_begins_to_hold_during_a_sweep_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with place_in(tmp_path) as place, anyio.create_task_group() as tasks:
        rows = place.rows("just added")
        begun, recorded = anyio.Event(), anyio.Event()

        async def work() -> None:
            async with place.in_use.holding(rows):
                begun.set()
            recorded.set()

        async def add() -> None:
            tasks.start_soon(work)
            await begun.wait()

        found = ContentStore.forgotten

        def forgotten(self: ContentStore, referenced: set[str], before_s: float) -> set[str]:
            chosen = found(self, referenced, before_s)
            # The log was read, and only now somebody begins with what it did not name.
            anyio.from_thread.run(add)
            return chosen

        async def names_it(candidates: set[str]) -> None:
            await place.register(rows)

        monkeypatch.setattr(ContentStore, "forgotten", forgotten)
        monkeypatch.setattr(place.in_use, "remove_unneeded", names_it)
        await place.sweep()
        await recorded.wait()
        assert place.contents.whole(rows)


async def test_chunks_that_no_list_names_leave_but_not_while_a_list_is_damaged(tmp_path: Path) -> None:
    async with place_in(tmp_path) as place:
        kept, loose = place.rows("kept"), place.rows("loose")
        await place.register(kept)
        chunks = place.contents.chunks(loose)
        place.contents.remove(loose)
        path = place.contents.path(kept)
        whole = path.read_bytes()
        path.write_bytes(whole[:-20] + b"?" * 20)
        await place.sweep()
        assert place.there() >= chunks | {one.sha256 for one in read_list_of(whole, tmp_path)}
        path.write_bytes(whole)
        await place.sweep()
        assert not place.there() & chunks
        assert place.contents.whole(kept)


def read_list_of(content: bytes, folder: Path) -> tuple[object, ...]:
    path = folder / "list"
    path.write_bytes(content)
    return read_list(path)


@pytest.mark.parametrize("damage", ["cut", "changed", "head", "gone"])
async def test_an_erasure_takes_the_chunks_of_a_damaged_list_and_nobody_elses(tmp_path: Path, damage: str) -> None:
    async with place_in(tmp_path) as place:
        erased, other = place.rows("erased"), place.rows("other")
        await place.register(other, "other")
        await place.register(erased)
        path = place.contents.path(erased)
        whole = path.read_bytes()
        damaged = {"cut": whole[:-90], "changed": whole.replace(b'"sha256":"', b'"sha257":"'), "head": b"?" + whole[1:]}
        path.unlink() if damage == "gone" else path.write_bytes(damaged[damage])
        gone = DatasetErased("faq", MINE, ("v1",), (erased,), ())
        await place.store.append([StreamAppend("dataset-faq", (gone,))], actor=ACTOR)
        half = place.half_sent(b"another file")
        await place.in_use.remove_erased("faq", [erased])
        assert place.there() == {other, *place.contents.chunks(other), half.name}


async def test_an_erasure_ends_the_work_on_its_dataset_and_waits_for_it(tmp_path: Path) -> None:
    async with place_in(tmp_path) as place:
        erased = place.rows("erased")
        begun, ended = anyio.Event(), anyio.Event()

        async def work() -> None:
            try:
                async with place.in_use.holding(erased, dataset_id="faq"):
                    begun.set()
                    await anyio.sleep_forever()
            except Conflict:
                ended.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work)
            await begun.wait()
            await place.in_use.remove_erased("faq", [erased])
            assert place.there() == set()
        assert ended.is_set()


async def test_what_is_brought_back_from_a_backup_is_not_taken_before_the_log_names_it(tmp_path: Path) -> None:
    async with place_in(tmp_path) as place, anyio.create_task_group() as tasks:
        with place.in_use.bringing_back():
            rows = place.rows("brought back")
            await place.sweep()
            tasks.start_soon(place.in_use.remove_erased, "faq", [])
            await anyio.sleep(0.5)
            assert place.contents.whole(rows)
            await place.register(rows, "back")
        await anyio.wait_all_tasks_blocked()
        assert place.contents.whole(rows)


async def test_work_that_was_given_up_leaves_at_once_what_the_log_does_not_name(tmp_path: Path) -> None:
    async with place_in(tmp_path) as place:
        named, not_named = place.rows("named"), place.rows("not named")
        with anyio.CancelScope() as scope:
            async with place.in_use.holding(named, not_named):
                await place.register(named)
                scope.cancel()
                await anyio.sleep_forever()
        assert place.contents.whole(named)
        assert place.there() == {named, *place.contents.chunks(named)}


async def test_what_could_not_be_removed_while_the_log_was_not_to_be_had_leaves_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with place_in(tmp_path) as place:
        with monkeypatch.context() as failing:

            async def fails() -> None:
                raise Conflict("the disk is full")

            failing.setattr(place.store, "round_trip", fails)
            async with place.in_use.holding(await place.sent(b"sent")):
                pass
            assert place.there()
        await place.in_use.remove_left()
        assert place.there() == set()


async def test_what_another_user_sent_too_waits_for_them(tmp_path: Path) -> None:
    async with place_in(tmp_path) as place:
        for by_uid in (MINE, THEIRS):
            sha256 = await place.sent(b"the same file", by_uid=by_uid)
        async with place.in_use.holding(sha256, sent_by=MINE):
            pass
        assert place.there() == {sha256}
        assert not place.contents.sent_by(sha256, MINE), "it was used"
        assert place.contents.sent_by(sha256, THEIRS)
        async with place.in_use.holding(sha256, sent_by=THEIRS):
            pass
        assert place.there() == set()


async def test_an_upload_is_known_to_those_who_sent_it_alone(tmp_path: Path) -> None:
    async with place_in(tmp_path) as place:
        sources = SourceReading(place.store, Inspector(), place.contents, place.in_use)
        theirs = replace(ACTOR, uid=THEIRS)
        sha256 = await place.sent(b"a person's file")
        source = Source(sha256, "file.txt")
        await sources.require(source, ACTOR)
        with pytest.raises(FileMissing):
            await sources.require(source, theirs)
        with pytest.raises(FileMissing):
            await sources.mapped_rows(source, theirs, set())
        # Rows of a dataset are no upload of anybody.
        with pytest.raises(FileMissing):
            await sources.require(Source(place.rows("rows"), "rows.jsonl"), ACTOR)
        await place.sent(b"a person's file", by_uid=THEIRS)
        await sources.require(source, theirs)
        half = place.half_sent(b"half of another one")
        name = half.name.partition(".")[0]
        assert (place.contents.received_bytes(name, MINE), place.contents.received_bytes(name, THEIRS)) == (9, 0)


async def test_a_folder_is_made_of_files_that_its_sender_sent(tmp_path: Path) -> None:
    async with place_in(tmp_path) as place:
        sources = SourceReading(place.store, Inspector(), place.contents, place.in_use)
        file = await place.sent(b"their file", by_uid=THEIRS)
        listed = await place.sent(b'{"files":[{"name":"a.txt","sha256":"%b"}]}' % file.encode())
        with pytest.raises(FileMissing):
            await sources.require(Source(listed, "folder", folder=True), ACTOR)


async def test_a_sweep_waits_for_a_backup_and_goes_on_after_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("btmd.registry.content_sweep.SWEEP_EVERY_S", 0.01)
    monkeypatch.setattr("btmd.registry.content_sweep.UPLOAD_KEPT_S", -60.0)
    failures = iter([OSError(5, "the disk"), None])

    async def registered() -> set[str]:
        if (failure := next(failures, None)) is not None:
            raise failure
        return set()

    async with place_in(tmp_path) as place, anyio.create_task_group() as tasks:
        turn = anyio.Lock()
        await place.sent(b"forgotten")
        async with turn:
            tasks.start_soon(ContentSweep(in_use=place.in_use, registered=registered, backup_turn=turn).run)
            await anyio.sleep(0.1)
            assert place.there()
        with anyio.fail_after(60):
            while place.there():  # noqa: ASYNC110 - nobody tells
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
