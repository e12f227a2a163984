"""Adding and removing models: facts read in a child, GGUF files converted once."""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import anyio.to_thread
import msgspec

from btmd.command_handler import CommandHandler, Handled
from btmd.domain.event import Actor
from btmd.domain.model import AddModel, ModelFacts, ModelState, RemoveModel, SetModel, VerifyModel, stream_name
from btmd.errors import Conflict, FileMissing, InvalidValue, NotFound, PathNotOpened, PickledWeights
from btmd.files.durable import write_atomically
from btmd.hub_cache import cached_model, is_hub_id
from btmd.inspection.facts import ConversionFacts, FileHashes, PickleConversionFacts
from btmd.inspection.facts import ModelFacts as InspectedFacts
from btmd.inspection.requests import ConvertGgufRequest, ConvertPickledRequest, HashRequest, ModelRequest
from btmd.model_fingerprint import fingerprint_now
from btmd.naming import find_model, slug
from btmd.planning.hyperparameters import HyperparameterValue, hyperparameter
from btmd.projections.model import ModelRow
from btmd.registry.inspector import Inspector
from btmd.registry.model_places import ModelPlaces
from btmd.store.event_log import IdempotencyKey, Recorded, Store

OnProgress = Callable[[float, str], None]
SOURCE_FILE = "btmd-source.json"
"""In a converted folder: which file it was made from, so that it is converted only once."""


class ModelChanged(Conflict):
    code, title = "model_changed", "The model's files changed since it was added"


class ConvertedFrom(msgspec.Struct, frozen=True):
    """The source of a conversion, as it was then; times in nanoseconds."""

    source: str
    size_bytes: int
    modified_ns: int


class ModelAdding:
    """Registers models where they lie. ``models_dir`` holds those that were converted."""

    def __init__(
        self,
        store: Store,
        handler: CommandHandler,
        inspector: Inspector,
        models_dir: Path,
        hub_cache_dir: Path | None = None,
        *,
        places: ModelPlaces,
    ) -> None:
        self._store, self._handler, self._inspector = store, handler, inspector
        self._models_dir, self._hub_cache_dir = models_dir, hub_cache_dir
        self._places = places

    async def add(
        self,
        given_path: str,
        name: str | None,
        *,
        actor: Actor,
        on_progress: OnProgress,
        convert: bool = False,
        idempotency: IdempotencyKey | None = None,
        respond: Callable[[ModelState, list[Recorded]], bytes] | None = None,
    ) -> Handled:
        """Register a model folder, or convert a GGUF file and register what it became.

        Pickled weights are refused, or with ``convert`` read by a reader of tensors and kept as safetensors.

        Raises PathNotOpened for another user's request, FileMissing, ModelRefused, NotEnoughDisk, Conflict.
        """
        if actor.uid != os.getuid():
            raise PathNotOpened(
                "The daemon runs as another user than you and opens no file of yours.",
                hint="`btmctl models add PATH` opens the files with your rights and sends them.",
            )
        path = _checked(given_path)
        name = name or _usual_name(path)
        model_id = slug(name)
        await self._refuse_other_source(model_id, path)
        if path.is_file():
            gguf = ConvertGgufRequest(source=str(path), folder=str(self._models_dir / model_id))
            folder, facts = await self._converted(gguf, on_progress)
        else:
            folder, facts = await self._as_folder(path, model_id, on_progress, convert=convert)
        command = AddModel(
            model_id=model_id,
            name=name,
            owner_uid=actor.uid,
            source=str(path),
            folder=str(folder),
            converted=folder != path,
            facts=domain_facts(facts),
        )
        return await self._handler.handle(command, actor=actor, idempotency=idempotency, respond=respond)

    async def remove(self, row: ModelRow, *, actor: Actor) -> Handled:
        """End the registration; a folder of the daemon's own goes, the person's files stay. Raises Conflict."""
        await self._places.require_unneeded(row)
        if not row.converted:
            return await self._handler.handle(RemoveModel(row.model_id), actor=actor)
        async with self._places.placing(row.model_id, row.folder):
            return await self._handler.handle(RemoveModel(row.model_id), actor=actor)

    async def take_from_cache(self, text: str, *, actor: Actor, on_progress: OnProgress) -> None:
        """Register a model that is known by an id of the local Hugging Face cache and by nothing else yet.

        Raises what ``add`` raises; anything else that ``text`` may mean is left to whoever looks it up.
        """
        if not is_hub_id(text):
            return
        async with self._store.session() as session:
            try:
                await find_model(session, text)
                return
            except NotFound:
                folder = await self._cached(text, actor)
        if folder is not None:
            await self.add(str(folder), text, actor=actor, on_progress=on_progress)

    async def facts_unregistered(self, text: str, *, actor: Actor) -> ModelFacts | None:
        """What the files say of a model that is an id of the local Hugging Face cache or the path of a folder.

        None where there is no such thing, or it is another user who asks. Registers nothing. Raises ModelRefused.
        """
        folder = await self._cached(text, actor)
        if folder is None and actor.uid == os.getuid() and text.startswith("/") and "\0" not in text:
            path = Path(text)
            folder = path if await anyio.to_thread.run_sync(path.is_dir) else None
        if folder is None:
            return None
        request = ModelRequest(folder=str(folder))
        return domain_facts(await self._inspector.model(request, lambda share, doing: None))

    async def _cached(self, text: str, actor: Actor) -> Path | None:
        """The folder of an id of the local Hugging Face cache, which the daemon reads only for its own user."""
        if self._hub_cache_dir is None or actor.uid != os.getuid():
            return None
        return await anyio.to_thread.run_sync(cached_model, self._hub_cache_dir, text)

    async def verify(self, row: ModelRow, *, actor: Actor, on_progress: OnProgress) -> tuple[Handled, FileHashes]:
        """Read every byte and compare with what was recorded, or record it. Raises FileMissing, ChildFailed."""
        hashes = await self._inspector.hashes(HashRequest(folder=row.folder), on_progress)
        return await self._handler.handle(VerifyModel(row.model_id, hashes.files), actor=actor), hashes

    async def set(self, row: ModelRow, changes: Mapping[str, object], *, actor: Actor) -> Handled:
        """Change training values that plans for this model begin with; None takes one away.

        Raises UnknownKey, InvalidValue.
        """
        checked: dict[str, HyperparameterValue | None] = {}
        for key, value in changes.items():
            known = hyperparameter(key)
            checked[key] = None if value is None else known.read(value)
        return await self._handler.handle(SetModel(row.model_id, checked), actor=actor)

    async def _refuse_other_source(self, model_id: str, path: Path) -> None:
        """Before any work: a name that stands for another model already."""
        state, _ = await self._handler.state(stream_name(model_id))
        if state is not None and not state.removed and state.source != str(path):
            raise Conflict(f"Another model is called {model_id} already.", hint="Choose another name with --name.")

    async def _as_folder(
        self, path: Path, model_id: str, on_progress: OnProgress, *, convert: bool
    ) -> tuple[Path, InspectedFacts]:
        try:
            facts = await self._inspector.model(ModelRequest(folder=str(path)), on_progress)
        except PickledWeights:
            if not convert:
                raise
            request = ConvertPickledRequest(source=str(path), folder=str(self._models_dir / model_id))
            return await self._converted(request, on_progress)
        if facts.tokenizer == "slow":
            return await self._with_new_tokenizer(path, model_id, on_progress)
        return path, facts

    async def _converted(
        self, request: ConvertGgufRequest | ConvertPickledRequest, on_progress: OnProgress
    ) -> tuple[Path, InspectedFacts]:
        """What the source became; a conversion of the same source is not done twice."""
        folder = Path(request.folder)
        origin = await anyio.to_thread.run_sync(_origin_now, Path(request.source))
        if _origin(folder) == origin:
            return folder, await self._inspector.model(ModelRequest(folder=str(folder)), on_progress)
        await anyio.to_thread.run_sync(shutil.rmtree, folder, True)
        converted: ConversionFacts | PickleConversionFacts
        if isinstance(request, ConvertGgufRequest):
            converted = await self._inspector.convert_gguf(request, on_progress)
        else:
            converted = await self._inspector.convert_pickled(request, on_progress)
        write_atomically(folder / SOURCE_FILE, msgspec.json.encode(origin))
        return folder, converted.model

    async def _with_new_tokenizer(
        self, path: Path, model_id: str, on_progress: OnProgress
    ) -> tuple[Path, InspectedFacts]:
        """A folder of links to the person's files, beside a tokenizer in the form that is read here."""
        folder = self._models_dir / model_id
        if folder.exists():
            await anyio.to_thread.run_sync(shutil.rmtree, folder)
        request = ModelRequest(folder=str(path), tokenizer_folder=str(folder))
        facts = await self._inspector.model(request, on_progress)
        _link_files(path, folder)
        # What is compared later is the folder that is used: its links lead to the person's files, as they are then.
        fingerprint = await anyio.to_thread.run_sync(fingerprint_now, folder)
        return folder, msgspec.structs.replace(facts, fingerprint=fingerprint)


def require_unchanged(row: ModelRow) -> None:
    """Raises FileMissing or ModelChanged where the model's folder is not the one that was registered."""
    folder = Path(row.folder)
    hint = f"`btmctl models add {row.source} --name {row.name}` takes it as it is now."
    try:
        same = fingerprint_now(folder) == row.facts.fingerprint
    except FileNotFoundError as error:
        raise FileMissing(
            f"The model {row.name} is not whole in {folder} any more: {Path(error.filename).name} is gone.",
            hint="Put it back, or remove and add the model again.",
        ) from None
    except (OSError, ValueError) as error:
        raise ModelChanged(f"The model in {folder} cannot be read ({type(error).__name__}).", hint=hint) from error
    if not same:
        raise ModelChanged(
            f"The model {row.name} is not the one that was added: its configuration, tokenizer or weights in {folder} "
            "were changed since.",
            hint=hint,
        )


def domain_facts(inspected: InspectedFacts) -> ModelFacts:
    """What an inspection found, as the domain keeps it."""
    values = {name: "" if value is None else value for name, value in msgspec.structs.asdict(inspected).items()}
    return msgspec.convert(values, ModelFacts)


def _checked(given_path: str) -> Path:
    if not given_path or "\0" in given_path:
        raise InvalidValue("The path is empty or holds a zero byte.")
    path = Path(given_path)
    if not path.is_absolute():
        raise InvalidValue("The path must be absolute.", hint="btmctl makes it so by itself.")
    path = Path(os.path.normpath(path))
    try:
        path.stat()
    except OSError as problem:
        raise FileMissing(f"{path} cannot be opened: {os.strerror(problem.errno or 0).lower()}.") from None
    return path


def _usual_name(path: Path) -> str:
    """The folder's or file's name; for a snapshot in the Hugging Face cache the model's own."""
    if path.parent.name == "snapshots" and path.parent.parent.name.startswith("models--"):
        return path.parent.parent.name.removeprefix("models--").replace("--", "/")
    return path.stem if path.is_file() else path.name


def _link_files(source: Path, folder: Path) -> None:
    for file in source.iterdir():
        link = folder / file.name
        if file.is_file() and not link.exists():
            link.symlink_to(file)


def _origin_now(path: Path) -> ConvertedFrom:
    """Of a folder: all its files' bytes, and the newest of them."""
    files = [path] if path.is_file() else [file for file in path.iterdir() if file.is_file()]
    found = [file.stat() for file in files]
    return ConvertedFrom(str(path), sum(one.st_size for one in found), max(one.st_mtime_ns for one in found))


def _origin(folder: Path) -> ConvertedFrom | None:
    try:
        return msgspec.json.decode((folder / SOURCE_FILE).read_bytes(), type=ConvertedFrom)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
