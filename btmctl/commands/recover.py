"""btmctl recover: a lost or damaged database rebuilt from backups; needs no daemon."""

import argparse
import os
import time

from btmctl import words
from btmctl.backup_process import BackupFailed, Document, run_backup_process
from btmctl.errors import DONE, Refused, UsageError, exit_code_of
from btmctl.output import Output
from btmctl.parser import Single
from btmctl.places import own_state
from btmctl.session import Session
from btmctl.typed_secret import shown_line, typed_secret


def command() -> Single:
    single = Single(
        "recover",
        run,
        "Rebuilds the daemon's database from a backup folder and a key: settings, registrations, the history of the"
        " jobs, and the files that went along. The daemon must not be running. What stands there is kept aside.",
        [
            "btmctl recover --from ~/.local/state/btmd/backups",
            "btmctl recover --from /media/stick --recovery-key",
            "btmctl recover --from /media/stick --key /media/other/key --backup 9f86",
        ],
    )
    add = single.parser.add_argument
    add("--from", dest="folder", metavar="PATH", required=True, help="a backup folder, or a backup's file")
    secret = single.parser.add_mutually_exclusive_group()
    secret.add_argument("--key", metavar="FILE", help="the key file (default: the one in the state folder)")
    secret.add_argument("--credential", metavar="FILE", help="the systemd credential, decrypted")
    secret.add_argument("--recovery-key", action="store_true", help="the recovery key is typed")
    secret.add_argument("--passphrase", action="store_true", help="the passphrase is typed")
    add("--backup", metavar="B", help="the beginning of a backup's id (default: the newest full one)")
    add("--store", metavar="ID", default="", help="the store, where the key opens backups of several")
    add("--state-dir", metavar="DIR", help="where to rebuild it (default: the daemon's usual state folder)")
    return single


def run(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    state_dir = _path(arguments.state_dir) if arguments.state_dir else own_state(session.environment)
    kind, secret = _secret(arguments, session, state_dir)
    request: Document = {
        "what": "recover",
        "folder": _path(arguments.folder),
        "keys": os.path.join(state_dir, "keys"),
        "store_id": arguments.store,
        "now_us": time.time_ns() // 1000,
        "state_dir": state_dir,
        "secret_kind": kind,
        "secret": secret,
        "backup_id": arguments.backup,
    }
    try:
        done = run_backup_process(request, output.progress)
    except BackupFailed as error:
        if error.code != "database_whole":
            raise
        if not session.confirm(f"{error.why} Rebuild it?", otherwise=error.hint):
            raise Refused("Nothing was changed.", "", "", code="declined") from None
        done = run_backup_process({**request, "replace": True}, output.progress)
    output.end_progress()
    if output.as_json:
        output.document({**done, "state_dir": state_dir})
    else:
        _tell(done, state_dir, output)
    return next((exit_code_of(problem["code"], 503) for problem in done["problems"]), DONE)


def _secret(arguments: argparse.Namespace, session: Session, state_dir: str) -> tuple[str, str]:
    if arguments.recovery_key:
        return "recovery_key", shown_line(session, "Recovery key")
    if arguments.passphrase:
        return "passphrase", typed_secret(session, "Passphrase")
    for option, given in (("--key", arguments.key), ("--credential", arguments.credential)):
        if given is not None and os.path.isdir(_path(given)):
            raise UsageError(f"{option} names a folder.", f"{_path(given)} holds no single key.", f"{option} FILE")
    if arguments.credential:
        return "credential", _path(arguments.credential)
    key = _path(arguments.key) if arguments.key else os.path.join(state_dir, "keys", "key")
    if not arguments.key and not os.path.exists(key):
        raise UsageError(
            "A key is needed to open the backups.",
            f"There is no key file at {key}.",
            "Give --key FILE, --credential FILE, --recovery-key or --passphrase.",
        )
    return "key_file", key


def _tell(done: Document, state_dir: str, output: Output) -> None:
    output.say(f"Rebuilt {os.path.join(state_dir, 'btmd.db')} from the backup {done['backup_id']}.", "green")
    output.fields(
        [
            ("backup", done["backup_id"]),
            ("made", words.moment_us(done["created_at_us"])),
            ("events", done["events"]),
            ("files brought back", done["artefacts"]),
            ("epoch", done["epoch"]),
            ("what was there", done["kept"]),
        ]
    )
    if done["unreadable"]:
        names = ", ".join(done["unreadable"])
        output.say(f"Perhaps newer, but damaged, so that they could not be used: {names}.", "yellow")
    if done["unopened"]:
        output.say(f"Newer, but this key does not open them: {', '.join(done['unopened'])}.", "yellow")
    for problem in done["problems"]:
        output.say(f"{problem['name']} did not come back: {problem['detail']}", "yellow")
    for one in done["omissions"]:
        output.say(f"Not in this backup: {one['what']}. {one['then']}", "yellow")
    output.say("Start the daemon again; it goes on from there.")


def _path(given: str) -> str:
    return os.path.abspath(os.path.expanduser(given))
