"""A model or a dataset named on the command line: an id, a name, or a path that is added first."""

import os
import re
import shlex
import stat

from btmctl import words
from btmctl.client import Document
from btmctl.errors import CommandError, NoSuchFile, ServerRefused
from btmctl.session import Session
from btmctl.upload import content_of, given_file, upload

_UPDATED = re.compile(r"btmctl datasets update ([^ `]+)")
DATA_ENDINGS = (
    *(".jsonl", ".json", ".csv", ".tsv", ".txt", ".md", ".ndjson", ".parquet", ".docx", ".odt", ".html", ".htm"),
    *(".pdf", ".markdown", ".xhtml"),
)


def model(given: str, session: Session) -> Document:
    """The registered model for an id, name or path. Raises what the client raises."""
    if _is_path(given, (".gguf",)):
        return add_model(given, session, name=None)
    try:
        found: Document = session.client.get(f"/models/{given}")
        return found
    except ServerRefused as error:
        if error.status == 404 and os.path.exists(given):
            return add_model(given, session, name=None)
        if error.status == 404 and (known := _known_here(given, session)) is not None:
            return add_model(known, session, name=given)
        raise


def dataset(given: str, session: Session, *, consent: bool, purpose: str) -> Document:
    """The registered dataset for an id, name or path.

    A path wins over a name, so that a file that changed is never silently replaced by what was added before.
    """
    if _is_path(given, DATA_ENDINGS):
        return _added(given, session, consent=consent, purpose=purpose)
    try:
        found: Document = session.client.get(f"/datasets/{given}")
        tell_if_changed(found, session)
        return found
    except ServerRefused as error:
        if error.status == 404 and os.path.exists(given):
            return _added(given, session, consent=consent, purpose=purpose)
        if error.status == 404 and (given.endswith(DATA_ENDINGS) or os.sep in given):
            raise NoSuchFile(
                f"There is no file {given}.", f"And {error.why[:1].lower()}{error.why[1:]}", "btmctl datasets list"
            ) from None
        raise


def add_model(path: str, session: Session, *, name: str | None, convert: bool = False) -> Document:
    """Register the folder or GGUF file at ``path``; the daemon reads it where it lies, or it is sent to another user's.

    Whether pickled weights are converted is asked for at a terminal unless ``convert`` says so.
    """
    given, known = path, None if os.path.exists(path) else _known_here(path, session)
    if known is not None:
        path, name = known, name or path
    path = os.path.abspath(os.path.expanduser(path))
    if not os.path.exists(path):
        from btmctl import demo_model

        others = "btmctl models discover finds those on this machine, btmctl models list shows those that were added."
        hint = "btmctl quickstart fetches it." if given == demo_model.NAME else others
        raise NoSuchFile(f"There is no model at {path}.", "The path leads nowhere.", hint)
    body: Document = {"path": path}
    if name:
        body["name"] = name
    if convert:
        body["convert"] = True
    try:
        try:
            return session.work("/models", body)
        except ServerRefused as error:
            if error.code != "path_not_opened":
                raise
        from btmctl.model_upload import send_model

        return send_model(path, session, name=name, convert=convert)
    except ServerRefused as error:
        if error.code != "pickled_weights" or convert or not (session.yes or session.can_ask):
            raise
        if not session.confirm(f"{error.why} Convert them to safetensors, reading tensors alone?", otherwise=""):
            raise
        return add_model(path, session, name=name, convert=True)


def add_dataset(
    path: str,
    session: Session,
    *,
    consent: bool,
    purpose: str,
    name: str | None = None,
    mapping: dict[str, str] | None = None,
    scopes: list[str] | None = None,
) -> Document:
    """Send the file or folder at ``path`` and register it. Consent is asked for at a terminal unless it was given."""
    path = given_file(path)
    if not consent:
        consent, purpose = consent_for(path, session, purpose)
    body: Document = {**described(path, session), "consent": consent}
    if scopes:
        body["scopes"] = scopes
    body.update({key: value for key, value in (("name", name), ("purpose", purpose), ("mapping", mapping)) if value})
    return sent_if_wanted("/datasets", path, body, session)


def consent_for(path: str, session: Session, purpose: str) -> tuple[bool, str]:
    """Ask whether the file or folder may be used; raises first what reading it would."""
    from btmctl.upload import open_file

    path = given_file(path)
    if not os.path.isdir(path):
        open_file(path).close()
    return ask_consent(os.path.basename(os.path.abspath(path)), session, purpose)


def mapped_rows(path: str, session: Session, mapping: dict[str, str]) -> Document:
    """A few rows as a mapping makes them; the bytes are sent for it and not kept."""
    path = given_file(path)
    body: Document = {"content": send(path, session), "file_name": os.path.basename(os.path.abspath(path))}
    return session.work("/datasets/mapping-preview", {**body, "mapping": mapping, "folder": os.path.isdir(path)})


def described(path: str, session: Session) -> Document:
    """What the daemon is told of a file beside its bytes."""
    whole = os.path.abspath(path)
    if os.path.isdir(path):
        from btmctl import folder

        listed = folder.listing(path, session)
        return {
            "content": listed.sha256,
            "file_name": os.path.basename(whole) or "folder",
            "source_path": whole,
            "source_changed_at": words.rfc3339(listed.changed_us),
            "folder": True,
        }
    return {
        "content": content_of(path, session),
        "file_name": os.path.basename(whole),
        "source_path": whole,
        "source_changed_at": words.rfc3339(os.stat(path).st_mtime_ns // 1000),
    }


def sent_if_wanted(address: str, path: str, body: Document, session: Session) -> Document:
    """Ask the daemon to take up the file at ``path``; its bytes are sent only where it does not know them."""
    try:
        return session.work(address, body)
    except ServerRefused as error:
        if error.code != "file_not_found":
            raise
    return session.work(address, {**body, "content": send(path, session)})


def send(path: str, session: Session) -> str:
    """Bring a file or the files of a folder to the daemon; returns the SHA-256 to name it by."""
    if not os.path.isdir(path):
        return upload(path, session)
    from btmctl import folder

    return folder.send(path, session)


def tell_if_changed(found: Document, session: Session) -> None:
    """Say so where the file of a dataset is not what was read any more; what was read is used all the same.

    The file is looked at with the asking user's rights; one that is gone or not theirs says nothing.
    """
    path = found.get("source_path") or ""
    try:
        held = os.stat(path)
        if stat.S_ISDIR(held.st_mode):
            from btmctl import folder

            is_same = words.rfc3339(folder.newest_change_us(path)) == found.get("source_changed_at") or (
                folder.listing(path, session).sha256 == found["source_sha256"]
            )
        elif not stat.S_ISREG(held.st_mode) or (
            words.rfc3339(held.st_mtime_ns // 1000) == found.get("source_changed_at")
        ):
            return
        else:
            is_same = content_of(path, session) == found["source_sha256"]
        if is_same:
            return
    except (OSError, CommandError):
        return
    session.output.say(
        f"{path} has changed since it was read: what is used is version {found['version_id']}, as it was then. "
        f"btmctl datasets update {found['dataset_id']} makes the next version.",
        "yellow",
    )


def _added(path: str, session: Session, *, consent: bool, purpose: str) -> Document:
    try:
        return add_dataset(path, session, consent=consent, purpose=purpose)
    except ServerRefused as error:
        if error.code == "conflict":
            # Here --name would name the training, so the daemon's hint leads astray.
            file, taken = shlex.quote(path), _UPDATED.search(error.hint)
            error.hint = (
                f"btmctl datasets update {taken[1] if taken else 'D'} {file} makes its next version; "
                f"btmctl datasets add {file} --name OTHER adds another one"
            )
            error.problem["hint"] = error.hint
        else:
            from btmctl.commands.dataset_mapping import end_in_command

            end_in_command(error, shlex.join(["btmctl", "datasets", "add", path]), {})
        raise


def ask_consent(file_name: str, session: Session, purpose: str) -> tuple[bool, str]:
    """Whether the data may be used, and what for."""
    agreed = session.confirm(
        f"May {file_name} be used for training? The answer is recorded with your name.",
        otherwise="Add --consent if you may allow it (and --purpose to say what for).",
    )
    if not agreed:
        from btmctl.errors import Refused

        raise Refused(
            "The dataset was not added.",
            "Nobody allowed the use of this data.",
            "--consent allows it.",
            code="consent_missing",
        )
    if not purpose and session.can_ask and not session.yes:
        purpose = session.ask("What for? (Enter to leave it open) ")
    return True, purpose


def _known_here(given: str, session: Session) -> str | None:
    """Where a model lies that is known by its name: one of the Hugging Face cache, or the quickstart's."""
    cached = in_hub_cache(given, session)
    if cached is not None:
        return cached
    from btmctl import demo_model

    return demo_model.find(session.environment) if given == demo_model.NAME else None


def in_hub_cache(given: str, session: Session) -> str | None:
    """The folder of an id such as ``org/name`` in the local Hugging Face cache."""
    from btmd.hub_cache import cached_model, hub_cache, is_hub_id

    folder = cached_model(hub_cache(session.environment), given) if is_hub_id(given) else None
    return None if folder is None else str(folder)


def _is_path(given: str, endings: tuple[str, ...]) -> bool:
    """Whether this must be a path: it exists, and no id or name is meant by it."""
    expanded = os.path.expanduser(given)
    looks_so = given.startswith((".", os.sep, "~")) or given.endswith(endings)
    return looks_so and (os.path.exists(expanded) or given.startswith((os.sep, "./", "../", "~/")))
