"""btmctl config edit: all settings in an editor, sent as one change."""

import argparse
import json
from typing import Any

from btmctl.commands.settings_history import tell_changed
from btmctl.editor import edited, require_terminal
from btmctl.errors import DONE, CommandError, UsageError
from btmctl.session import Session


def edit(arguments: argparse.Namespace, session: Session) -> int:
    """Show the settings in $VISUAL or $EDITOR; a mistake is told and can be mended."""
    require_terminal(session, "btmctl config set KEY=VALUE works without one.")
    settings = session.client.get("/settings")
    before = {one["key"]: one["value"] for one in settings if not one["is_default"]}
    text = as_text(settings)
    while True:
        text = edited(text, "settings.toml", session)
        try:
            changes = changes_of(before, text)
            if not changes:
                session.output.say("Nothing was changed.")
                return DONE
            body = {"changes": changes, "why": arguments.why}
            return tell_changed(session.client.patch("/settings", body), session.output)
        except CommandError as error:
            session.output.problem(error.what, error.why, error.hint)
            if not session.confirm("Edit it again?", otherwise="--yes"):
                return error.exit_code


def as_text(settings: list[dict[str, Any]]) -> str:
    """The settings as TOML; those that have their default as comments."""
    lines = ["# Save and leave the editor to apply; a line that is taken out or commented out takes its default again."]
    section = ""
    for one in settings:
        table, _, name = one["key"].rpartition(".")
        if table != section:
            section = table
            lines += ["", f"[{table}]"]
        lines.append(f"# {one['meaning']} It is {one['allowed']}.")
        lines.append(f"{'# ' if one['is_default'] else ''}{name} = {json.dumps(one['value'], ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def changes_of(before: dict[str, Any], text: str) -> dict[str, Any]:
    """What the edited text changes; None where a default applies again. Raises UsageError."""
    import tomllib

    try:
        parsed = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError("This is not TOML.", str(error), "btmctl config edit") from None
    after: dict[str, Any] = {}
    for table, values in parsed.items():
        if isinstance(values, dict):
            after.update({f"{table}.{name}": value for name, value in values.items()})
        else:
            after[table] = values
    return {
        key: after.get(key)
        for key in sorted(before.keys() | after.keys())
        if key not in before or key not in after or before[key] != after[key]
    }
