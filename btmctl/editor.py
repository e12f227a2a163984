"""A text in the person's own editor."""

import os

from btmctl.errors import Refused, UsageError
from btmctl.session import Session


def require_terminal(session: Session, otherwise: str) -> None:
    """Raises Refused without a terminal; ``otherwise`` is what works without one."""
    if not session.can_ask:
        raise Refused("An editor needs a terminal.", "", otherwise, code="needs_answer")


def edited(text: str, file_name: str, session: Session) -> str:
    """The text as $VISUAL or $EDITOR left it. Raises UsageError, Refused."""
    import shlex
    import subprocess
    import tempfile

    editor = session.environment.get("VISUAL") or session.environment.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory(prefix="btmctl-") as folder:
        path = os.path.join(folder, file_name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        try:
            code = subprocess.run([*shlex.split(editor), path], check=False).returncode
        except OSError as problem:
            raise UsageError(
                f"The editor {editor} cannot be started.", problem.strerror or "", "Set EDITOR, such as EDITOR=nano."
            ) from None
        if code != 0:
            raise Refused("The editor ended with an error; nothing was changed.", "", "", code="declined")
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
