"""btmctl status: is everything well, and what is running."""

import argparse

from btmctl import words
from btmctl.client import Document
from btmctl.errors import DONE
from btmctl.parser import Single
from btmctl.session import Session


def command() -> Single:
    return Single(
        "status",
        run,
        "Shows the daemon that answers, the machine, and the trainings under way.",
        ["btmctl status", "btmctl status --json"],
    )


def run(arguments: argparse.Namespace, session: Session) -> int:
    client, output = session.client, session.output
    status = client.get("/status")
    if output.as_json:
        output.document({**status, "socket": client.socket_path})
        return DONE
    hardware = status.get("hardware") or {}
    gpus = hardware.get("gpu_count") or 0
    output.fields(
        [
            ("state", status.get("status")),
            ("daemon", client.socket_path),
            ("version", status.get("version")),
            ("processor cores", hardware.get("cpu_cores")),
            ("memory free", f"{hardware.get('available_memory_gb', 0):.1f} GB"),
            ("GPUs", f"{gpus}, {hardware.get('available_gpu_memory_gb', 0):.1f} GB free" if gpus else ""),
            ("mixed precision", words.value(hardware.get("supports_mixed_precision"))),
            ("active trainings", status.get("active_training_jobs")),
            ("waiting", _queue(status.get("queue") or {})),
            ("presets", status.get("available_presets")),
            ("event log", _log(status.get("log") or {})),
            ("backups", _backups(status)),
            ("last proved restore", words.moment(status.get("last_proved_restore_at")) or "never"),
        ]
    )
    for about, problem in (status.get("problems") or {}).items():
        output.say(f"{about}: {problem}", "yellow")
    for warning in status.get("warnings") or ():
        output.say(f"job {warning['job_id']}: {warning['text']} {warning['advice']}", "yellow")
    for reminder in status.get("reminders") or ():
        output.say(reminder)
    return DONE


def _queue(queue: Document) -> str:
    """How many trainings wait, and why the first one does."""
    if not queue.get("waiting"):
        return ""
    return f"{queue['waiting']}; {queue['job_id']}: {queue['waits_for'] or 'It starts now.'}"


def _log(log: Document) -> str:
    """What the log takes, and how much of it is progress of trainings."""
    if not log:
        return ""
    size = words.size(log["database_bytes"])
    condensed = f", {words.count(log['condensed_ticks'])} condensed to {words.size(log['segments_bytes'])}"
    return f"{size}, {words.count(log['ticks'])} progress reports" + (condensed if log["condensed_ticks"] else "")


def _backups(status: Document) -> str:
    last = words.moment(status.get("last_backup_at"))
    return f"{status['system_backups']}, the last {last}" if last else "none yet"
