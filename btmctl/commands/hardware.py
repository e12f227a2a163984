"""btmctl hardware: this machine, and what it is good for."""

import argparse

from btmctl import words
from btmctl.client import Document
from btmctl.errors import DONE
from btmctl.output import Output
from btmctl.parser import Single
from btmctl.session import Session


def command() -> Single:
    return Single(
        "hardware",
        run,
        "Reads the machine anew and says what it means for training; --json has every field.",
        ["btmctl hardware", "btmctl hardware --json"],
    )


def run(arguments: argparse.Namespace, session: Session) -> int:
    found, output = session.client.get("/hardware"), session.output
    if output.as_json:
        output.document(found)
        return DONE
    for sentence in found["explained"]:
        output.paragraph(str(sentence))
    output.line()
    output.fields(_fields(found))
    if found["gpus"]:
        output.line()
        _show_gpus(found["gpus"], output)
    return DONE


def _fields(found: Document) -> list[tuple[str, object]]:
    cpu, memory, disk, power = found["cpu"], found["memory"], found["disk"], found["power"]
    torch = found.get("torch") or {}
    cuda = f", CUDA {torch['cuda_version']}" if torch.get("cuda_version") else ""
    turning = {True: ", a turning disk", False: "", None: ""}[disk["rotational"]]
    charge = "" if power["battery_percent"] is None else f", battery at {power['battery_percent']} %"
    return [
        ("processor", f"{cpu['model']}, {cpu['usable_cores']} of {cpu['physical_cores']} cores"),
        ("instructions", words.value(cpu["instruction_sets"])),
        ("memory", f"{_gb(memory['available_bytes'])} of {_gb(memory['total_bytes'])} free"),
        ("swap", f"{_gb(memory['swap_free_bytes'])} free" if memory["swap_total_bytes"] else ""),
        ("disk", f"{_gb(disk['free_bytes'])} free, {disk['filesystem'] or 'unknown kind'}{turning}"),
        ("power", f"{power['source']}{charge}" if power["source"] else ""),
        (
            "driver",
            f"{found['driver_version']}, CUDA {found['driver_cuda_version']}" if found["driver_version"] else "",
        ),
        ("torch", f"{torch['version']}{cuda}" if torch else "not installed"),
    ]


def _show_gpus(gpus: list[Document], output: Output) -> None:
    rows = [
        (
            gpu["index"],
            gpu["name"],
            f"{_gb(gpu['free_bytes'])} of {_gb(gpu['total_bytes'])}",
            ".".join(map(str, gpu["compute_capability"])),
            "" if gpu["temperature_c"] is None else f"{gpu['temperature_c']} °C",
            ", ".join(gpu["throttle_reasons"]),
            "" if gpu["uncorrected_errors"] is None else gpu["uncorrected_errors"],
            len(gpu["mig_instances"]) or "",
        )
        for gpu in gpus
    ]
    headings = ("GPU", "name", "free", "capability", "heat", "slowed by", "memory errors", "MIG parts")
    kept = [place for place in range(len(headings)) if any(row[place] != "" for row in rows)]
    output.table([headings[place] for place in kept], [[row[place] for place in kept] for row in rows])
    users = [(gpu["index"], process) for gpu in gpus for process in gpu["processes"]]
    if users:
        output.line()
        each = [
            (
                index,
                one["pid"],
                words.user(one["uid"]),
                one["name"],
                _gb(one["used_bytes"]) if one["used_bytes"] else "",
            )
            for index, one in users
        ]
        output.table(("GPU", "process", "of", "called", "memory"), each)


def _gb(size_bytes: int) -> str:
    """Powers of 1024, as memory is sold, and as the sentences above have it."""
    return f"{size_bytes / 1024**3:.1f} GB"
