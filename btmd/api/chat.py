"""Asking a job's base and tuned model, the answer as it comes."""

from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio
import msgspec
from msgspec import Meta
from starlette.responses import Response

from btmd.api.answers import NDJSON, StreamAnswer, Write, line
from btmd.api.jobs import found_job
from btmd.api.operation import Router, operation
from btmd.api.parts import Parts
from btmd.api.permission import JOB, Permission
from btmd.api.problems import problem
from btmd.chat import ChatModel
from btmd.domain import settings
from btmd.domain.event import Actor
from btmd.domain.settings import SettingsState
from btmd.domain.use import RecordTalk
from btmd.errors import BtmdError, Conflict, FileMissing
from btmd.jobs.report import read_report, result_folder
from btmd.jobs.uses import require_use_allowed
from btmd.projections.job import JobRow

router = Router(prefix="/jobs", tags=("chat",))


class ChatMessage(msgspec.Struct, forbid_unknown_fields=True):
    role: Literal["system", "user", "assistant"]
    content: Annotated[str, Meta(max_length=100_000)]


class ChatQuestion(msgspec.Struct):
    """A conversation to be continued. That it was held is recorded, and not a word of it."""

    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=200)]
    which: Literal["base", "tuned", "both"] = "tuned"
    max_new_tokens: Annotated[int, Meta(ge=1, le=8192)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None


async def _model(parts: Parts, row: JobRow) -> ChatModel:
    """Raises Conflict, ConsentMissing where it was taken back, FileMissing."""
    folder = result_folder(row, parts.config.jobs_dir)
    if folder is None:
        raise Conflict(
            f"The job {row.job_id} has no result to talk to: it is {row.state}.",
            hint=f"`btmctl jobs show {row.job_id}` says more.",
        )
    await require_use_allowed(parts.store, row)
    report = await read_report(parts.store, row)
    plan = report.trainer_plan
    base = Path(plan["model_folder"])
    for needed in (folder, base):
        if not needed.is_dir():
            raise FileMissing(f"{needed} is not there any more.")
    is_adapter = plan.get("lora") is not None or bool(plan.get("adapter_folder"))
    return ChatModel(
        base=base,
        adapter=folder if is_adapter else None,
        full=None if is_adapter else folder,
        precision=str(plan["precision"]),
        threads=int(plan["threads"]),
    )


@operation(
    router,
    "POST",
    "/{job_id}/chat",
    Permission.SEE,
    JOB,
    responses={200: {"description": "JSON lines: which and token, at last done", "content": {NDJSON: {}}}},
    response_model=None,
)
async def chat(job_id: str, body: ChatQuestion, parts: Parts, actor: Actor) -> Response:
    """Answer with the base model, the tuned one, or one after the other."""
    row = await found_job(parts, job_id)
    model = await _model(parts, row)
    state, _ = await parts.handler.state(settings.STREAM)
    state = state or SettingsState()
    longest = body.max_new_tokens or int(state.get("chat.max_new_tokens"))
    warmth = float(state.get("chat.temperature")) if body.temperature is None else body.temperature
    which: tuple[str, ...] = ("base", "tuned") if body.which == "both" else (body.which,)

    async def answer(one: str, write: Write) -> None:
        question: dict[str, Any] = {
            "messages": [msgspec.structs.asdict(message) for message in body.messages],
            "which": one,
            "max_new_tokens": longest,
            "temperature": warmth,
        }
        tokens, done = 0, False
        try:
            # Closed here and now: whoever waits for the same child would wait for ever for one that nobody reads.
            async with aclosing(parts.chats.ask(model, question, float(state.get("chat.idle_s")))) as answered:
                async for told in answered:
                    done = bool(told.get("done"))
                    tokens = int(told["tokens"]) if done else tokens + 1
                    await write(line({**told, "which": one}))
        finally:
            # Whoever hangs up in the middle has been answered up to there.
            with anyio.CancelScope(shield=True):
                talk = RecordTalk(row.job_id, one, actor.uid, len(body.messages), tokens, answered=done)
                await parts.handler.handle(talk, actor=actor)

    async def produce(write: Write) -> None:
        try:
            async with parts.chats.users.turn():
                for one in which:
                    await answer(one, write)
        except BtmdError as error:
            await write(line({"error": problem(error)}))

    return StreamAnswer(produce, NDJSON, parts.stopping)
