"""Models: folders of weights on this machine, known by the facts in their headers."""

from dataclasses import dataclass, replace

from btmd.domain.event import Event, event
from btmd.errors import Conflict, ModelNotFound


@dataclass(frozen=True, slots=True)
class ModelFacts:
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
class ModelAdded(Event):
    """``folder`` is where weights are read from: the person's own folder, or one converted in the state folder."""

    model_id: str
    name: str
    owner_uid: int
    source: str
    folder: str
    converted: bool
    facts: ModelFacts


@event("ModelRemoved")
class ModelRemoved(Event):
    """The registration ended; the person's own files were not touched."""

    model_id: str


@dataclass(frozen=True, slots=True)
class AddModel:
    model_id: str
    name: str
    owner_uid: int
    source: str
    folder: str
    converted: bool
    facts: ModelFacts


@dataclass(frozen=True, slots=True)
class RemoveModel:
    model_id: str


ModelCommand = AddModel | RemoveModel


@dataclass(frozen=True, slots=True)
class ModelState:
    model_id: str
    source: str
    folder: str
    fingerprint: str
    removed: bool = False


def stream_name(model_id: str) -> str:
    return f"model-{model_id}"


def stream(command: ModelCommand) -> str:
    return stream_name(command.model_id)


def decide(command: ModelCommand, state: ModelState | None) -> list[Event]:
    """Adding the same folder again changes nothing. Raises Conflict for a name in use, ModelNotFound."""
    if isinstance(command, AddModel):
        if state is not None and not state.removed:
            if (state.source, state.fingerprint) == (command.source, command.facts.fingerprint):
                return []
            if state.source != command.source:
                raise Conflict(
                    f"Another model is called {command.model_id} already.", hint="Choose another name with --name."
                )
        return [
            ModelAdded(
                command.model_id,
                command.name,
                command.owner_uid,
                command.source,
                command.folder,
                command.converted,
                command.facts,
            )
        ]
    if state is None or state.removed:
        raise ModelNotFound(
            f"There is no model called {command.model_id}.", hint="`btmctl models list` shows those there are."
        )
    return [ModelRemoved(command.model_id)]


def evolve(state: ModelState | None, happened: Event) -> ModelState | None:
    if isinstance(happened, ModelAdded):
        return ModelState(happened.model_id, happened.source, happened.folder, happened.facts.fingerprint)
    if state is not None and isinstance(happened, ModelRemoved):
        return replace(state, removed=True)
    return state
