"""Models of people whose files the daemon may not open: sent file by file, under their hashes."""

import os
import re
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from btmd.domain.units import format_bytes
from btmd.errors import FileMissing, InvalidValue, NotAModel, NotEnoughDisk, PickledWeights
from btmd.model_files import MOST_FILES, has_weights, is_gguf, is_pickled, is_taken, is_too_large
from btmd.registry.content import UPLOAD_KEPT_S, ContentStore

ARRIVING = ".arriving"
"""In the folder of models: what is sent, by user, until a model comes of it."""
_NO_LIMIT_BYTES = 2**62


class SentModel(Struct, frozen=True):
    """Files by their names and SHA-256; ``source`` is where they lie with the person, told and never looked at."""

    source: str
    files: Mapping[str, str]

    @property
    def gguf(self) -> str:
        """The name of the GGUF file that is the whole model; empty for a folder."""
        return next((name for name in self.files if is_gguf(name)), "")

    @property
    def usual_name(self) -> str:
        """The folder's or file's name; for a snapshot in the Hugging Face cache the model's own."""
        parts = self.source.rstrip("/").split("/")
        if len(parts) > 2 and parts[-2] == "snapshots" and parts[-3].startswith("models--"):
            return parts[-3].removeprefix("models--").replace("--", "/")
        return parts[-1].rpartition(".")[0] or parts[-1] if self.gguf else parts[-1]


def require_model_files(sizes: Mapping[str, int], *, convert: bool) -> None:
    """Raises InvalidValue, NotAModel, PickledWeights for files that no model is made of."""
    names = list(sizes)
    if len(names) > MOST_FILES:
        raise InvalidValue(f"These are {len(names):,} files; a model has a few dozen.")
    ggufs = [name for name in names if is_gguf(name)]
    if ggufs and len(names) > 1:
        raise InvalidValue("A GGUF file is a whole model, and comes alone.", hint="Send that one file.")
    if not convert and any(map(is_pickled, names)):
        raise PickledWeights(
            "The weights are pickled (.bin, .pt): reading them can run anything hidden in them.",
            hint="`btmctl models add PATH --convert` sends them, to be read as tensors alone and kept as safetensors.",
        )
    other = [name for name in names if not is_taken(name, convert=convert)]
    if other:
        raise InvalidValue(
            f"{other[0][:80]!r} is no file that a model needs.",
            hint="Configuration, tokenizer and weights in safetensors are taken, or one GGUF file.",
        )
    large = [name for name in names if is_too_large(name, sizes[name])]
    if large:
        raise InvalidValue(f"{large[0]} is larger than such a file ever is ({format_bytes(sizes[large[0]])}).")
    if not has_weights(names):
        raise NotAModel("There are no weights among these files: no .safetensors file.", hint="Send the weights too.")
    if not ggufs and "config.json" not in sizes:
        raise NotAModel("There is no config.json among these files.", hint="Give the model's folder.")


class ModelUploads:
    """What arrives of models, each user's apart from those of others; below the folder that the models stand in."""

    def __init__(self, models_dir: Path) -> None:
        self._models_dir = models_dir
        self._root = models_dir / ARRIVING
        self._stores: dict[int, ContentStore] = {}

    def _store(self, uid: int) -> ContentStore:
        found = self._stores.setdefault(uid, ContentStore(self._root / str(uid)))
        # A reset takes it away with everything else.
        found.create()
        return found

    def received_bytes(self, sha256: str, uid: int) -> tuple[int, bool]:
        """How much of a file this user's upload brought, and whether that is all of it."""
        store = self._store(uid)
        if store.has(sha256):
            store.keep(sha256)
            return store.path(sha256).stat().st_size, True
        return store.received_bytes(sha256, uid), False

    async def receive(
        self, sha256: str, chunks: AsyncIterator[bytes], *, by_uid: int, offset: int, reserve_bytes: int
    ) -> int:
        """Take the bytes from ``offset`` to the end; returns the whole size. Raises as ``ContentStore.receive``."""
        store = self._store(by_uid)
        if store.has(sha256):
            store.keep(sha256)
            return store.path(sha256).stat().st_size
        return await store.receive(
            sha256, chunks, by_uid=by_uid, offset=offset, limit_bytes=_NO_LIMIT_BYTES, reserve_bytes=reserve_bytes
        )

    def arrived_bytes(self, uid: int) -> int:
        """What of this user's models is here and belongs to none yet."""
        root = self._root / str(uid)
        return sum(_size(path) for path in root.glob("*/*") if path.is_file()) if root.is_dir() else 0

    def require_disk(self, needed_bytes: int, uid: int, reserve_bytes: int) -> None:
        """Raises NotEnoughDisk where files of so many bytes would not fit beside what has to stay free."""
        self._models_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        space = os.statvfs(self._models_dir)
        free = space.f_bavail * space.f_frsize
        more = max(0, needed_bytes - self.arrived_bytes(uid))
        if more > free - reserve_bytes:
            raise NotEnoughDisk(
                f"The model's files take {format_bytes(more)} more; {format_bytes(max(0, free - reserve_bytes))} are "
                f"free beside the reserve.",
                hint="Somebody has to free some room (`btmctl disk`), or an admin lowers the reserve: "
                "`btmctl config set disk.reserve_gb=...`.",
            )

    def new_work(self, uid: int) -> Path:
        """A folder to be made, in which a model is put together."""
        return self._store(uid).working_file(secrets.token_hex(8))

    def assemble(self, sent: SentModel, uid: int, work: Path) -> Path:
        """A folder in ``work`` with the files under their own names. Blocking. Raises FileMissing, OSError."""
        store = self._store(uid)
        missing = [name for name, sha256 in sent.files.items() if not store.has(sha256)]
        if missing:
            raise FileMissing(
                f"{len(missing)} of the model's files were not sent; the first is {missing[0]}.",
                hint="Send each with PUT /model-files/{sha256} first.",
            )
        large = [name for name, sha256 in sent.files.items() if is_too_large(name, _size(store.path(sha256)))]
        if large:
            raise InvalidValue(f"{large[0]} is larger than such a file ever is.")
        # Messages and facts are told with the name that the person knows.
        folder = work / "sent" / _plain(sent.source.rstrip("/").rpartition("/")[2])
        folder.mkdir(mode=0o700, parents=True)
        for name, sha256 in sent.files.items():
            link_or_copy(store.path(sha256), folder / name)
        return folder

    def remove_work(self, work: Path) -> None:
        """Take the folder away, with what was not moved out of it."""
        shutil.rmtree(work, ignore_errors=True)

    def forget(self, sent: SentModel, uid: int) -> None:
        """Take away what a model came of."""
        store = self._store(uid)
        for sha256 in set(sent.files.values()):
            store.remove(sha256)

    # --- left-overs ------------------------------------------------------------------------------

    def sweep(self, *, at_start: bool = False, now_s: float | None = None) -> int:
        """Remove what was sent and nothing came of for a day, at a start also what was half made; how many files."""
        before_s = (time.time() if now_s is None else now_s) - UPLOAD_KEPT_S
        removed = 0
        for folder in self._root.iterdir() if self._root.is_dir() else ():
            if not folder.name.isdigit():
                continue
            store = self._store(int(folder.name))
            for sha256 in store.forgotten(set(), before_s):
                store.remove(sha256)
                removed += 1
            for path in store.given_up(before_s):
                store.clear(path)
                removed += 1
            if at_start:
                for path in (folder / "partial").glob("*.work"):
                    store.clear(path)
        return removed


def link_or_copy(content: Path, target: Path) -> None:
    """The same bytes under another name, on the same disk. Raises OSError."""
    try:
        os.link(content, target)
    except OSError:
        # Not every file system has links.
        shutil.copyfile(content, target)


def _plain(name: str) -> str:
    """A name of one folder, whatever was told."""
    return re.sub(r"[^\w.+-]", "_", name).lstrip(".")[:100] or "model"


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat(follow_symlinks=False).st_size
    return 0


def sizes_of(files: Sequence[tuple[str, int]]) -> dict[str, int]:
    """Sizes by name. Raises InvalidValue for a name that is given twice."""
    sizes = dict(files)
    if len(sizes) < len(files):
        raise InvalidValue("One of the files is named twice.")
    return sizes
