"""Brings a model's files onto this disk: continued where they stopped, and none kept whose hash is not the hub's."""

import hashlib
import http.client
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from btmctl import words
from btmctl.errors import DAMAGED, FAILED, REFUSED, CommandError
from btmctl.hub import BadAnswer, Hub, HubFile, HubModel

BLOCK_BYTES = 1 << 20
SPARE_BYTES = 200_000_000
MOST_FAILURES = 6
"""Failed connections in a row without a single new byte."""
FIRST_PAUSE_S = 0.5

Progress = Callable[[float | None, str], None]


class Download:
    """One model into one folder. Files appear under their names only when they are whole and right."""

    def __init__(self, hub: Hub, model: HubModel, files: Sequence[HubFile], folder: Path, progress: Progress) -> None:
        self._hub, self._model, self._files = hub, model, files
        self._folder, self._progress = folder, progress
        self._done_bytes = 0

    @property
    def total_bytes(self) -> int:
        return sum(file.size_bytes for file in self._files)

    def check_room(self) -> None:
        """Raises CommandError where the disk is too small for what is not there yet."""
        there = sum(_size(path) for file in self._files for path in (self._folder / file.name, self._part(file)))
        needed = self.total_bytes - there + SPARE_BYTES
        place = self._folder
        while not place.is_dir():
            place = place.parent
        free = shutil.disk_usage(place).free
        if free < needed:
            raise CommandError(
                "There is not enough room on the disk.",
                f"{words.size(needed)} are needed in {place}, {words.size(free)} are free.",
                "Free some room, or choose another place with --to DIR.",
                code="not_enough_disk",
                exit_code=REFUSED,
            )

    def run(self) -> None:
        """Fetch what is missing. Raises CommandError; what was fetched by then is kept for the next time."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        for file in self._files:
            target = self._folder / file.name
            if not (_size(target) == file.size_bytes and target.is_file() and self._is_right(file, target)):
                self._fetch(file)
            self._done_bytes += file.size_bytes

    def _part(self, file: HubFile) -> Path:
        # Named by its hash: the rest of another version is never joined to it.
        return self._folder / f".{file.name}.{(file.sha256 or file.git_sha1)[:16]}.part"

    def _fetch(self, file: HubFile) -> None:
        if not (file.sha256 or file.git_sha1):
            raise CommandError(
                f"{file.name} cannot be checked.",
                "The hub tells no hash of it.",
                "Check HF_ENDPOINT.",
                code="hub_failed",
                exit_code=FAILED,
            )
        part = self._part(file)
        for is_last in (False, True):
            self._complete(file, part)
            if self._is_right(file, part):
                part.replace(self._folder / file.name)
                _sync_folder(self._folder)
                return
            # What was kept from an earlier time may have been damaged here: once more from the beginning.
            part.unlink(missing_ok=True)
            if is_last:
                break
        raise CommandError(
            f"{file.name} did not arrive as the hub describes it.",
            "Its bytes have another hash, twice. It was not kept.",
            "Try again later, or over another connection.",
            code="hash_mismatch",
            exit_code=DAMAGED,
        )

    def _complete(self, file: HubFile, part: Path) -> None:
        """Append to the part until it has all its bytes."""
        failures = 0
        problem: Exception | None = None
        while _size(part) < file.size_bytes or not part.exists():
            before = _size(part)
            try:
                self._append(file, part)
                problem = None
            except (OSError, http.client.HTTPException, BadAnswer) as error:
                _raise_if_local(error)
                problem = error
            failures = 0 if _size(part) > before else failures + 1
            if file.size_bytes == 0 and problem is None:
                return
            if failures >= MOST_FAILURES:
                raise self._given_up(problem)
            if problem is not None or failures:
                time.sleep(FIRST_PAUSE_S * 2**failures)
        if _size(part) > file.size_bytes:
            part.unlink()
            self._complete(file, part)

    def _append(self, file: HubFile, part: Path) -> None:
        offset = _size(part)
        with self._hub.open_file(self._model, file, offset) as answer, part.open("ab") as out:
            if offset and answer.status != http.client.PARTIAL_CONTENT:
                out.truncate(0)
                offset = 0
            try:
                self._take(answer, out, file, offset)
            finally:
                out.flush()
                os.fsync(out.fileno())

    def _take(self, answer: http.client.HTTPResponse, out: BinaryIO, file: HubFile, offset: int) -> None:
        at = offset
        # Never more than was announced: the disk was checked for that.
        while at < file.size_bytes and (block := answer.read(min(BLOCK_BYTES, file.size_bytes - at))):
            out.write(block)
            at += len(block)
            share = (self._done_bytes + at) / max(1, self.total_bytes)
            self._progress(share, f"Fetching {file.name} ({words.size(self.total_bytes)} in all)")

    def _is_right(self, file: HubFile, path: Path) -> bool:
        self._progress(None, f"Checking {file.name}")
        digest = hashlib.sha256() if file.sha256 else hashlib.sha1(usedforsecurity=False)
        if not file.sha256:
            digest.update(f"blob {file.size_bytes}\0".encode())
        with path.open("rb") as content:
            while block := content.read(BLOCK_BYTES):
                digest.update(block)
        return digest.hexdigest() == (file.sha256 or file.git_sha1)

    def _given_up(self, problem: Exception | None) -> CommandError:
        if isinstance(problem, CommandError):
            return problem
        return unreachable(self._hub.endpoint, problem, self._model.hub_id)


def unreachable(endpoint: str, problem: Exception | None, hub_id: str) -> CommandError:
    """The hub cannot be reached, or the connection breaks again and again."""
    reason = getattr(problem, "reason", problem)
    return CommandError(
        "The hub cannot be reached.",
        f"{endpoint}: {reason or 'the connection ends before anything comes'}.",
        f"When it can: btmctl models pull {hub_id} goes on where it stopped. A model folder that was copied here by "
        "other means works too: btmctl models add PATH",
        code="hub_unreachable",
        exit_code=FAILED,
    )


def _raise_if_local(error: Exception) -> None:
    """A full or unwritable disk is not the connection's fault, and trying again does not help."""
    if isinstance(error, OSError) and error.filename is not None:
        raise CommandError(
            "A file cannot be written.",
            f"{error.filename}: {error.strerror}.",
            "Choose another place with --to DIR.",
            code="cannot_write",
            exit_code=FAILED,
        ) from None
    if isinstance(error, OSError) and error.errno in (28, 122):
        raise CommandError(
            "The disk is full.",
            "What was fetched is kept.",
            "Free some room, then run the same command again.",
            code="not_enough_disk",
            exit_code=REFUSED,
        ) from None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
