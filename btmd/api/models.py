"""Models: what is registered, adding a folder or a GGUF file, removing."""

from typing import Annotated, Any

import anyio.to_thread
import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from btmd.api.answers import Progress, described, json_answer, working_answer
from btmd.api.idempotency import Key, earlier_facts, once, stored_facts
from btmd.api.operation import Router, operation
from btmd.api.paging import PAGE, Before, Limit
from btmd.api.parts import Parts
from btmd.api.permission import MODEL, Permission
from btmd.api.shapes import anything, keyed, no, nullable, one_of, typed
from btmd.api.times import rfc3339
from btmd.api.user_room import require_room
from btmd.api.work import heard
from btmd.domain.event import Actor
from btmd.domain.hardware import Hardware
from btmd.domain.model import ModelFacts
from btmd.hardware import probe
from btmd.inspection.facts import DatasetFacts
from btmd.inspection.facts import ModelFacts as InspectedFacts
from btmd.model_files import MOST_FILES
from btmd.naming import find_dataset, find_model
from btmd.projections.dataset import version
from btmd.projections.model import ModelRow, models
from btmd.registry.model_fitness import USUAL_ROWS, Compatibility, compatibility, estimated_tokens, judge
from btmd.registry.model_upload import SentModel, require_model_files, sizes_of
from btmd.registry.models import domain_facts

router = Router(prefix="/models", tags=("models",))

VERIFICATION = {
    "recorded_at": nullable("2026-11-22T14:00:00.000000Z"),
    "verified_at": nullable("2026-11-22T15:00:00.000000Z"),
    "changed": no("model.safetensors"),
    "missing": no("generation_config.json"),
    "added": no("notes.txt"),
}
EXAMPLE = {
    "model_id": "smollm2",
    "number": 17,
    "name": "SmolLM2",
    "owner_uid": 1000,
    "source": "/home/ada/models/smollm2",
    "folder": "/home/ada/models/smollm2",
    "converted": False,
    "added_at": "2026-11-22T14:00:00.000000Z",
    "facts": typed(
        ModelFacts,
        {
            "architecture": "LlamaForCausalLM",
            "family": "llama",
            "parameters": 134_515_008,
            "layers": 30,
            "hidden_size": 576,
            "intermediate_size": 1536,
            "heads": 9,
            "kv_heads": 3,
            "vocab_size": 49_152,
            "context_length": 8192,
            "tied_embeddings": True,
            "dtype": "bfloat16",
            "size_bytes": 269_060_552,
            "has_chat_template": True,
            "is_chat": True,
            "is_code": False,
            "fingerprint": "be01c1439c3d3126...",
            "quantised": "",
            "license": "apache-2.0",
            "linear_layers": ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"],
            "template_problem": "",
        },
    ),
    "settings": keyed({"learning_rate": anything(0.0002)}),
    "verification": VERIFICATION,
}
_FITS = {"training_type": "lora_adaptation", "fits": True, "reason": "Needs about 1.6 GB; 12 GB are free."}
COMPATIBILITY = [typed(Compatibility, {**_FITS, "needed_bytes": 1_600_000_000})]
SHOWN_EXAMPLE = {**EXAMPLE, "compatibility": COMPATIBILITY}
VERDICT = {
    "name": "SmolLM2",
    "model_id": nullable("smollm2"),
    "path": "/home/ada/models/smollm2",
    "verdict": one_of("fits", ("fits", "slow", "too_large", "no_template")),
    "reason": "Trains an adapter (LoRA) or all weights. Needs about 1.6 GB; 12 GB are free.",
    "training_types": COMPATIBILITY,
    "parameters": 134_515_008,
    "has_chat_template": True,
}
VERIFIED = {
    "model_id": "smollm2",
    "verdict": one_of("unchanged", ("recorded", "unchanged", "changed")),
    "files": 7,
    "size_bytes": 271_000_000,
    **VERIFICATION,
}
REMOVED_EXAMPLE = {"message": "The model SmolLM2 is removed from the list."}
MOST = 2**50
"""Of whatever a model has."""


class Discovered(msgspec.Struct):
    """A model that is not registered, with the facts that an inspection of it found."""

    name: Annotated[str, Meta(max_length=200)]
    path: Annotated[str, Meta(max_length=4096)]
    facts: InspectedFacts

    def __post_init__(self) -> None:
        facts = self.facts
        width = (facts.hidden_size, facts.intermediate_size, facts.heads, facts.kv_heads, facts.head_size)
        numbers = (facts.parameters, facts.layers, *width, facts.vocab_size, facts.context_length, facts.size_bytes)
        if facts.vocab_size < 1 or not all(0 <= number <= MOST for number in numbers):
            raise ValueError("no model has such numbers")


class VerdictRequest(msgspec.Struct):
    """Models beside the registered ones, and the data they are meant for."""

    models: Annotated[list[Discovered], Meta(max_length=500)] = []
    dataset_id: Annotated[str, Meta(max_length=200)] | None = None


class ModelSettings(msgspec.Struct):
    """Training values by their keys; null takes one away."""

    settings: dict[str, Any]


class SentFile(msgspec.Struct):
    """A file of the model by its name, which was sent with PUT /model-files/{sha256}."""

    name: Annotated[str, Meta(min_length=1, max_length=255)]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]


class ModelAddition(msgspec.Struct):
    """A path on this machine, opened by the daemon itself: only for its own user. Others send the ``files``.

    With those ``path`` only says where they are from.
    """

    path: Annotated[str, Meta(min_length=1, max_length=4096)]
    name: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    convert: bool = False
    """Convert pickled weights, which are refused otherwise."""
    files: Annotated[list[SentFile], Meta(max_length=MOST_FILES)] | None = None

    def sent(self) -> SentModel | None:
        """Raises InvalidValue, PickledWeights."""
        if self.files is None:
            return None
        require_model_files(sizes_of([(one.name, 0) for one in self.files]), convert=self.convert)
        return SentModel(self.path, {one.name: one.sha256 for one in self.files})


def model_json(row: ModelRow) -> dict[str, Any]:
    return {
        "model_id": row.model_id,
        "number": row.added_seq,
        "name": row.name,
        "owner_uid": row.owner_uid,
        "source": row.source,
        "folder": row.folder,
        "converted": row.converted,
        "added_at": rfc3339(row.added_us),
        "facts": row.facts,
        "settings": row.settings,
        "verification": {
            "recorded_at": None if row.hashed_us is None else rfc3339(row.hashed_us),
            "verified_at": None if row.verified_us is None else rfc3339(row.verified_us),
            **{name: row.differences.get(name, []) for name in ("changed", "missing", "added")},
        },
    }


@operation(router, "GET", "", Permission.READ, **described([SHOWN_EXAMPLE], text="newest first"))
async def list_models(parts: Parts, limit: Limit = PAGE, before: Before = None) -> Response:
    """Registered models; older ones with `before`."""
    async with parts.store.session() as session:
        rows = await models(session, limit=limit, before=before)
    hardware = await anyio.to_thread.run_sync(probe, parts.config.state_dir) if rows else None
    async with parts.computing.turn():
        told = await anyio.to_thread.run_sync(lambda: [_with_compatibility(row, hardware, parts) for row in rows])
    return json_answer(told)


@operation(router, "POST", "", Permission.TRAIN, **described(EXAMPLE, errors=(400, 404, 409), progress=True))
async def add_model(body: ModelAddition, request: Request, key: Key, parts: Parts, actor: Actor) -> Response:
    """Register a model folder, or convert a GGUF file. JSON lines with progress where they are accepted.

    Without `files` the path is opened by the daemon, for its own user alone (`path_not_opened`).
    """
    earlier = await earlier_facts(parts, key)
    if earlier is not None:
        async with parts.store.session() as session:
            return json_answer(model_json(await find_model(session, earlier["model_id"])))

    sent = body.sent()

    async def work(progress: Progress) -> dict[str, Any]:
        asked: dict[str, Any] = {
            "actor": actor,
            "convert": body.convert,
            "idempotency": key,
            "respond": lambda state, rows: stored_facts({"model_id": state.model_id}),
        }
        async with heard(progress) as on_progress:
            if sent is None:
                handled = await parts.model_adding.add(body.path, body.name, on_progress=on_progress, **asked)
            else:
                handled = await parts.sent_models.add(
                    sent,
                    body.name,
                    on_progress=on_progress,
                    require_room=lambda needed_bytes: require_room(needed_bytes, actor, parts),
                    **asked,
                )
        async with parts.store.session() as session:
            return model_json(await find_model(session, handled.state.model_id))

    return await working_answer(request, work, parts.stopping)


@operation(router, "POST", "/verdicts", Permission.READ, **described([VERDICT], errors=(404,), text="the best first"))
async def judge_models(body: VerdictRequest, parts: Parts) -> Response:
    """Which models suit this machine: the registered ones and those that were found on somebody's disk."""
    async with parts.store.session() as session:
        rows = await models(session)
        tokens = USUAL_ROWS
        if body.dataset_id is not None:
            dataset = await find_dataset(session, body.dataset_id)
            newest = await version(session, dataset.dataset_id, dataset.newest_version)
            assert newest is not None
            facts = msgspec.convert(newest.facts, DatasetFacts)
            tokens = estimated_tokens(facts.rows_kept, facts.average_chars, facts.longest_chars)
    hardware = await anyio.to_thread.run_sync(probe, parts.config.state_dir)
    known = {row.source for row in rows}
    asked: list[tuple[str, str | None, str, ModelFacts]]
    asked = [(row.name, row.model_id, row.source, row.facts) for row in rows]
    asked += [(one.name, None, one.path, domain_facts(one.facts)) for one in body.models if one.path not in known]
    # Hundreds take seconds together: others are answered meanwhile.
    async with parts.computing.turn():
        judged = await anyio.to_thread.run_sync(
            lambda: [(judge(one[3], hardware, parts.presets.built_in, tokens), *one) for one in asked]
        )
    judged.sort(key=lambda one: (one[0].rank, one[1]))
    return json_answer(
        [
            {
                "name": name,
                "model_id": model_id,
                "path": path,
                "verdict": verdict.verdict,
                "reason": verdict.reason,
                "training_types": verdict.ways,
                "parameters": model.parameters,
                "has_chat_template": model.has_chat_template,
            }
            for verdict, name, model_id, path, model in judged
        ]
    )


@operation(
    router,
    "POST",
    "/{model_id:path}/verify",
    Permission.TRAIN,
    MODEL,
    **described(VERIFIED, errors=(404,), progress=True),
)
async def verify_model(model_id: str, request: Request, key: Key, parts: Parts, actor: Actor) -> Response:
    """Read every byte of the model's files and name those that are not as they were recorded."""
    async with parts.store.session() as session:
        row = await find_model(session, model_id)

    async def work(progress: Progress) -> dict[str, Any]:
        async with heard(progress) as on_progress:
            _, hashes = await parts.model_adding.verify(row, actor=actor, on_progress=on_progress)
        async with parts.store.session() as session:
            found = model_json(await find_model(session, row.model_id))
        verification = found["verification"]
        differs = any(verification[name] for name in ("changed", "missing", "added"))
        first = verification["verified_at"] is None
        return {
            "model_id": row.model_id,
            "verdict": "recorded" if first else "changed" if differs else "unchanged",
            "files": len(hashes.files),
            "size_bytes": hashes.size_bytes,
            **verification,
        }

    return await working_answer(request, once(parts, actor, key, work), parts.stopping)


@operation(router, "PATCH", "/{model_id:path}", Permission.OWN, MODEL, **described(EXAMPLE, errors=(404,)))
async def set_model(model_id: str, body: ModelSettings, parts: Parts, actor: Actor) -> Response:
    """Training values that plans for this model begin with; what is asked for one training still wins."""
    async with parts.store.session() as session:
        row = await find_model(session, model_id)
    await parts.model_adding.set(row, body.settings, actor=actor)
    async with parts.store.session() as session:
        return json_answer(model_json(await find_model(session, row.model_id)))


@operation(router, "GET", "/{model_id:path}", Permission.READ, **described(SHOWN_EXAMPLE, errors=(404,)))
async def get_model(model_id: str, parts: Parts) -> Response:
    """One model, with what its files say and what it can be trained as on this machine."""
    async with parts.store.session() as session:
        row = await find_model(session, model_id)
    hardware = await anyio.to_thread.run_sync(probe, parts.config.state_dir)
    return json_answer(_with_compatibility(row, hardware, parts))


def _with_compatibility(row: ModelRow, hardware: Hardware | None, parts: Parts) -> dict[str, Any]:
    found = compatibility(row.facts, hardware, parts.presets.built_in) if hardware is not None else ()
    return {**model_json(row), "compatibility": found}


@operation(router, "DELETE", "/{model_id:path}", Permission.OWN, MODEL, **described(REMOVED_EXAMPLE, errors=(404, 409)))
async def remove_model(model_id: str, parts: Parts, actor: Actor) -> Response:
    """End the registration; what the daemon kept of it goes, the person's own files are not touched."""
    async with parts.store.session() as session:
        row = await find_model(session, model_id)
    await parts.model_adding.remove(row, actor=actor)
    return json_answer({"message": f"The model {row.name} is removed from the list."})
