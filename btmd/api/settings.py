"""Settings: what can be changed, and changing it."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from btmd.api.answers import described, json_answer
from btmd.api.permission import ActorOf, PartsOf, Permission, operation
from btmd.domain import settings
from btmd.domain.settings import ChangeSettings, SettingsState

router = APIRouter(prefix="/settings", tags=["settings"])

EXAMPLE = {"key": "training.seed", "value": 42, "default": 42, "is_default": True, "type": "whole number"}


class SettingsChange(BaseModel):
    """New values by key; null takes the default again."""

    changes: dict[str, Any] = Field(min_length=1, max_length=200)
    why: str = Field("", max_length=1000)


async def _state(parts: PartsOf) -> SettingsState:
    state, _ = await parts.handler.state(settings.STREAM)
    return state or SettingsState()


@operation(router, "GET", "", Permission.READ, **described([EXAMPLE], text="every setting"))
async def list_settings(parts: PartsOf) -> Response:
    """Every setting with its value, its default, what is allowed, and what it means."""
    state = await _state(parts)
    return json_answer([settings.describe(one, state) for one in settings.SCHEMA])


@operation(router, "GET", "/{key}", Permission.READ, **described(EXAMPLE, text="one setting"))
async def get_setting(key: str, parts: PartsOf) -> Response:
    """One setting."""
    return json_answer(settings.describe(settings.setting(key), await _state(parts)))


@operation(router, "PATCH", "", Permission.ADMIN, **described({"changed": ["training.seed"], "settings": [EXAMPLE]}))
async def change_settings(body: SettingsChange, request: Request, parts: PartsOf, actor: ActorOf) -> Response:
    """Change several settings at once: all of them or none."""
    command = ChangeSettings(body.changes, body.why)
    handled = await parts.handler.handle(command, actor=actor)
    state = handled.state or SettingsState()
    return json_answer(
        {
            "changed": [recorded.data["key"] for recorded in handled.events],
            "settings": [settings.describe(settings.setting(key), state) for key in body.changes],
        }
    )
