"""Models: folders of weights on this machine, known by the facts in their headers."""

from collections.abc import Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from btmd.domain.event import Event, event
from btmd.errors import Conflict, ModelNotFound

SettingValue = int | float | bool | str | tuple[str, ...]


class ModelFacts(Struct, frozen=True):
    """What config, tokenizer and tensor headers say; no weight is read for it.

    ``parameters`` counts every weight once; ``size_bytes`` is that of the weight files; ``context_length`` in tokens;
    ``fingerprint`` is a SHA-256 over headers, config and tokenizer.
    """

    architecture: str
    family: str
    parameters: int
    layers: int
    hidden_size: int
    intermediate_size: int
    heads: int
    kv_heads: int
    vocab_size: int
    context_length: int
    tied_embeddings: bool
    dtype: str
    size_bytes: int
    has_chat_template: bool
    is_chat: bool
    is_code: bool
    fingerprint: str
    quantised: str = ""
    """The format of a base that had been quantised before it was converted, such as ``Q4_1``."""
    license: str = ""
    linear_layers: tuple[str, ...] = ()
    """Last parts of the names of a block's matrices, ``q_proj`` say; empty where they are not known."""
    template_problem: str = ""
    """Why the chat template cannot be learned from; empty when it can."""


@event("ModelAdded")
class ModelAdded(Event, frozen=True):
    """``folder`` is where weights are read from: the person's own folder, or one converted in the state folder."""

    model_id: str
    name: str
    owner_uid: int
    source: str
    folder: str
    converted: bool
    facts: ModelFacts


@event("ModelRemoved")
class ModelRemoved(Event, frozen=True):
    """The registration ended; the person's own files were not touched."""

    model_id: str


@event("ModelHashed")
class ModelHashed(Event, frozen=True):
    """The SHA-256 of each file of the folder by its name: what later verifications compare with."""

    model_id: str
    files: dict[str, str]


@event("ModelVerified")
class ModelVerified(Event, frozen=True):
    """Every byte was read and compared with what was recorded; three empty lists mean that nothing differs."""

    model_id: str
    changed: tuple[str, ...]
    missing: tuple[str, ...]
    added: tuple[str, ...]


@event("ModelSettingsChanged")
class ModelSettingsChanged(Event, frozen=True):
    """``settings`` are all training values that plans for this model begin with."""

    model_id: str
    settings: dict[str, SettingValue]


class AddModel(Struct, frozen=True):
    model_id: str
    name: str
    owner_uid: int
    source: str
    folder: str
    converted: bool
    facts: ModelFacts


class RemoveModel(Struct, frozen=True):
    model_id: str


class VerifyModel(Struct, frozen=True):
    """Compare ``files``, SHA-256 by name as they are now, with those recorded; the first time they are recorded."""

    model_id: str
    files: Mapping[str, str]


class SetModel(Struct, frozen=True):
    """Change training values of one model; None takes one away. They are checked before."""

    model_id: str
    changes: Mapping[str, SettingValue | None]


ModelCommand = AddModel | RemoveModel | VerifyModel | SetModel


class ModelState(Struct, frozen=True):
    model_id: str
    source: str
    folder: str
    fingerprint: str
    removed: bool = False
    files: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, SettingValue] = field(default_factory=dict)


def stream_name(model_id: str) -> str:
    return f"model-{model_id}"


def stream(command: ModelCommand) -> str:
    return stream_name(command.model_id)


def decide(command: ModelCommand, state: ModelState | None) -> list[Event]:
    """Adding the same folder again changes nothing. Raises Conflict for a name in use, ModelNotFound."""
    if isinstance(command, AddModel):
        return _add(command, state)
    if state is None or state.removed:
        raise ModelNotFound(
            f"There is no model called {command.model_id}.", hint="`btmctl models list` shows those there are."
        )
    match command:
        case VerifyModel():
            return [_verify(command, state)]
        case SetModel():
            settings = {key: value for key, value in {**state.settings, **command.changes}.items() if value is not None}
            return [] if settings == state.settings else [ModelSettingsChanged(command.model_id, settings)]
    return [ModelRemoved(command.model_id)]


def _add(command: AddModel, state: ModelState | None) -> list[Event]:
    settings: Mapping[str, SettingValue] = {}
    if state is not None and not state.removed:
        if state.source != command.source:
            raise Conflict(
                f"Another model is called {command.model_id} already.", hint="Choose another name with --name."
            )
        if state.fingerprint == command.facts.fingerprint:
            return []
        settings = state.settings
    added = ModelAdded(
        command.model_id,
        command.name,
        command.owner_uid,
        command.source,
        command.folder,
        command.converted,
        command.facts,
    )
    return [added, ModelSettingsChanged(command.model_id, dict(settings))] if settings else [added]


def _verify(command: VerifyModel, state: ModelState) -> Event:
    now, then = command.files, state.files
    if not then:
        return ModelHashed(command.model_id, dict(now))
    return ModelVerified(
        command.model_id,
        changed=tuple(sorted(name for name in now.keys() & then.keys() if now[name] != then[name])),
        missing=tuple(sorted(then.keys() - now.keys())),
        added=tuple(sorted(now.keys() - then.keys())),
    )


def evolve(state: ModelState | None, happened: Event) -> ModelState | None:
    if isinstance(happened, ModelAdded):
        return ModelState(happened.model_id, happened.source, happened.folder, happened.facts.fingerprint)
    if state is None:
        return None
    match happened:
        case ModelRemoved():
            return replace(state, removed=True)
        case ModelHashed():
            return replace(state, files=happened.files)
        case ModelSettingsChanged():
            return replace(state, settings=happened.settings)
    return state
