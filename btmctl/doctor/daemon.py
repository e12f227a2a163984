"""The daemon: whether one answers, of which version, and what it says about itself."""

import os
import shlex
import shutil
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from btmctl import words
from btmctl.doctor.finding import Finding, attention, broken, command_in, ok
from btmctl.doctor.installation import version_numbers
from btmctl.doctor.known import Known
from btmctl.errors import DAMAGED, TAMPERED, CommandError
from btmctl.own_installation import own_installation
from btmd import __version__

CHEAP_EVENTS = 50_000
"""A log up to this long is read through in about a second."""
VERIFY_S = 60.0
PROOF_IS_OLD_S = 30 * 86_400
_DAMAGE = ("view ", "database")


def check_daemon(known: Known) -> Iterator[Finding]:
    yield from check_reachable(known)
    if not known.health:
        return
    yield check_versions(str(known.health.get("version", "")), __version__)
    yield from check_health(known)
    yield from check_backups(known)
    yield from check_log(known)
    yield from check_notification_command(known)


def check_reachable(known: Known) -> Iterator[Finding]:
    if known.client is not None and known.refusal is None:
        yield ok("daemon", f"It answers at {known.client.socket_path}.")
    elif known.client is not None:
        remedy = f"btmctl access grant {words.user(os.getuid())} viewer"
        yield attention("daemon", "It answers, and does not know you.", "An admin can give you a role.", remedy)
    elif known.named_socket:
        why = f"{known.named_socket} was named, and no other is tried."
        said = known.refusal.why if known.refusal is not None else ""
        yield broken("daemon", "None answers.", f"{why} {said}".strip(), "btmctl daemon start")
    else:
        why = "Trainings are begun, and questions answered, by the daemon only."
        yield attention("daemon", "None runs.", why, "btmctl daemon start")


def check_versions(daemon: str, ours: str) -> Finding:
    about = "versions"
    if daemon == ours:
        return ok(about, f"btmctl and the daemon are both {ours}.")
    what = f"btmctl is {ours}, the daemon {daemon or 'of an unknown version'}."
    if version_numbers(daemon) > version_numbers(ours):
        why = "btmctl is the older one, and does not know all that the daemon can."
        return attention(about, what, why, own_installation().upgrade)
    why = "The daemon is the older one: it was upgraded and not started again, or is installed elsewhere."
    return attention(about, what, why, "btmctl daemon restart")


def check_health(known: Known) -> Iterator[Finding]:
    problems = dict(known.health.get("problems") or {})
    for about, problem in problems.items():
        code = {"exit_code": DAMAGED} if about.startswith(_DAMAGE) else {}
        yield broken(about, str(problem), "", command_in(str(problem), "btmctl daemon status"), **code)
    warnings = known.status.get("warnings") or []
    for warning in warnings:
        about, show = f"training {warning['job_id']}", f"btmctl jobs show {warning['job_id']}"
        yield attention(about, str(warning["text"]), str(warning["advice"]), show)
    reminders = [str(one) for one in known.status.get("reminders") or []]
    for reminder in reminders:
        yield attention("reminder", reminder.replace("`", ""), "", command_in(reminder, "btmctl status"))
    if not problems and not warnings and not reminders:
        yield ok("health", "The daemon finds nothing wrong.")


def check_backups(known: Known) -> Iterator[Finding]:
    if not known.status:
        return
    last, proved = known.status.get("last_backup_at"), known.status.get("last_proved_restore_at")
    if not last:
        why = "Settings, registrations and the history of the trainings are in one place only."
        yield attention("backups", "There is none yet.", why, "btmctl backup create")
        return
    yield ok("backups", f"{known.status['system_backups']}, the last one of {words.moment(last)}.")
    if not proved:
        why = "Only a backup that was restored on trial is known to work."
        yield attention("proved restore", "No backup was restored on trial yet.", why, "btmctl backup drill")
    elif time.time() - datetime.fromisoformat(str(proved)).timestamp() > PROOF_IS_OLD_S:
        why = "Much may have changed since."
        yield attention("proved restore", f"The last was {words.moment(proved)}.", why, "btmctl backup drill")
    else:
        yield ok("proved restore", f"The last was {words.moment(proved)}.")


def check_log(known: Known) -> Iterator[Finding]:
    """Whether the log is the one that was written, where that does not take long to find out."""
    length = int((known.health.get("store") or {}).get("head_seq") or 0)
    if known.client is None or length > CHEAP_EVENTS:
        yield ok("event log", f"{length} events, too many to read them all here; `btmctl audit verify` does.")
        return
    try:
        found = known.client.get("/audit/verification", timeout_s=VERIFY_S)
    except CommandError as error:
        yield attention("event log", "It could not be read through.", error.why or error.what, "btmctl audit verify")
        return
    if found["verdict"] == "ok":
        yield ok("event log", f"All {found['checked']} events are as they were written.")
        return
    tampered = found["verdict"] == "tampered"
    what = "Somebody changed it." if tampered else "It is damaged."
    why = f"Event {found['first_bad']}: {found['reason']}" if found["first_bad"] is not None else str(found["reason"])
    code = TAMPERED if tampered else DAMAGED
    yield broken("event log", what, why, "btmctl audit verify", exit_code=code)


def check_notification_command(known: Known) -> Iterator[Finding]:
    """Whether the program that is told of trainings can be run."""
    about, setting = "notify.command", known.settings.get("notify.command")
    command = str((setting or {}).get("value") or "").strip()
    if not command:
        return
    unset = "btmctl config unset notify.command"
    try:
        words_of_it = shlex.split(command)
    except ValueError:
        yield broken(about, "It cannot be taken apart: a quotation mark has no partner.", "Nobody is told.", unset)
        return
    shell = bool((known.settings.get("notify.shell") or {}).get("value"))
    program = "/bin/sh" if shell else words_of_it[0]
    if shutil.which(program) is None:
        there = Path(program).exists()
        what = f"{program} may not be run." if there else f"There is no program {program}."
        remedy = f"chmod u+x {shlex.quote(program)}" if there else unset
        yield broken(about, what, "Nobody is told of trainings by it.", remedy)
    else:
        yield ok(about, f"{program} is there and can be run.")
