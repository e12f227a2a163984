"""A request that is refused unless something changes: asked about at a terminal, and sent again with the permission."""

from btmctl.client import Document
from btmctl.errors import ServerRefused
from btmctl.session import Session

CHANGES = {
    "lora": "train a small adapter instead of all weights",
    "qlora": "train a small adapter on a base of four bits",
    "shorter": "train shorter rows, and leave longer ones out",
    "cpu": "use the processor instead of the GPU",
}


PERSONAL_DATA_OPTION = "--accept-personal-data trains on it as it is."


def _accepted(session: Session, refused: ServerRefused) -> bool:
    """True when the person trains on the personal data that was found; the answer is recorded. Raises the refusal."""
    session.output.end_progress()
    session.output.say(refused.why, "yellow")
    if not session.confirm("Train on it as it is? The answer is recorded.", otherwise=PERSONAL_DATA_OPTION):
        raise refused
    return True


def post_or_ask(session: Session, path: str, body: Document) -> Document:
    """The answer to ``body``, sent again with what the person permits. ``--allow none`` asks for nothing.

    Raises ServerRefused where nothing could be permitted, nobody can be asked, or the answer is no.
    """
    while True:
        try:
            answer: Document = session.client.post(path, body)
            return answer
        except ServerRefused as refused:
            if refused.code == "personal_data_found" and (session.can_ask or session.yes):
                body = {**body, "accept_personal_data": _accepted(session, refused)}
                continue
            allowed = [str(one) for one in body.get("allow") or ()]
            proposed = [str(one) for one in refused.problem.get("allow") or ()]
            missing = [one for one in proposed if one not in allowed]
            if not missing or "none" in allowed or not (session.can_ask or session.yes):
                raise
            changes = " and ".join(CHANGES.get(one, one) for one in missing)
            session.output.end_progress()
            session.output.say(refused.why)
            if not session.confirm(f"{changes[:1].upper()}{changes[1:]}?", otherwise=f"--allow {','.join(proposed)}"):
                raise
            body = {**body, "allow": [*allowed, *missing]}
