"""Figures for a monitoring system, in Prometheus' text format 0.0.4. No names of people, files or data among them.

Names and units follow Prometheus' conventions: base units, ``_total`` for what only grows.
"""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import accumulate
from pathlib import Path

import anyio.to_thread
from sqlmodel import col, func, select
from starlette.responses import PlainTextResponse, Response

from btmd import __version__
from btmd.api.health import degraded_reasons
from btmd.api.operation import Router, operation
from btmd.api.parts import Parts
from btmd.api.permission import Permission
from btmd.domain.hardware import Hardware
from btmd.domain.job import STATES
from btmd.hardware import probe
from btmd.projections.backup import backups, last_drill
from btmd.projections.job import JobRow, running_jobs
from btmd.projections.warning import open_warnings
from btmd.store.condensing import log_sizes
from btmd.store.durations import BOUNDS_S, Durations

router = Router(tags=("machine",))

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Labels = Mapping[str, object]


class _Metrics:
    """Collects samples, each under its name's one description."""

    def __init__(self) -> None:
        self._lines: dict[str, list[str]] = {}

    def add(self, name: str, kind: str, text: str, samples: Iterable[tuple[Labels, float | int | None]]) -> None:
        """``samples`` are labels and values; what is None is not known and left out."""
        lines = self._lines.setdefault(name, [f"# HELP {name} {text}", f"# TYPE {name} {kind}"])
        for labels, value in samples:
            if value is not None:
                inner = ",".join(f'{label}="{_escaped(str(one))}"' for label, one in labels.items())
                lines.append(f"{name}{{{inner}}} {value:.17g}" if inner else f"{name} {value:.17g}")

    def gauge(self, name: str, text: str, value: float | int | None) -> None:
        self.add(name, "gauge", text, [({}, value)])

    def counter(self, name: str, text: str, value: float | int) -> None:
        self.add(name, "counter", text, [({}, value)])

    def histogram(self, name: str, text: str, durations: Durations) -> None:
        """Each bucket counts those of the smaller ones too."""
        lines = self._lines.setdefault(name, [f"# HELP {name} {text}", f"# TYPE {name} histogram"])
        counts = list(accumulate(durations.counts))
        for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), counts, strict=True):
            lines.append(f'{name}_bucket{{le="{bound}"}} {count}')
        lines += [f"{name}_sum {durations.sum_s:.17g}", f"{name}_count {counts[-1]}"]

    def text(self) -> str:
        return "".join(line + "\n" for lines in self._lines.values() for line in lines)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


@operation(
    router,
    "GET",
    "/metrics",
    Permission.READ,
    responses={200: {"description": "Prometheus' text format", "content": {"text/plain": {}}}},
    response_model=None,
)
async def metrics(parts: Parts) -> Response:
    """Figures for a monitoring system, in Prometheus' text format."""
    found = _Metrics()
    found.add("btmd_info", "gauge", "The daemon's version.", [({"version": __version__}, 1)])
    _of_process(found)
    _of_requests(found, parts)
    await _of_log(found, parts)
    await _of_jobs(found, parts)
    _of_machine(found, await anyio.to_thread.run_sync(probe, parts.config.state_dir), parts.config.state_dir)
    problems = degraded_reasons(parts)
    found.gauge("btmd_problems", "Things that do not work just now; /health says which.", len(problems))
    found.add(
        "btmd_problem", "gauge", "1 for each thing that does not work.", [({"about": one}, 1) for one in problems]
    )
    return PlainTextResponse(found.text(), media_type=MEDIA_TYPE)


def _of_process(found: _Metrics) -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    booted_s = next(int(line.split()[1]) for line in Path("/proc/stat").read_text().splitlines() if "btime" in line)
    found.counter(
        "process_cpu_seconds_total", "Processor time of the daemon.", (int(fields[11]) + int(fields[12])) / ticks
    )
    found.gauge("process_resident_memory_bytes", "Memory of the daemon.", resident)
    found.gauge("process_open_fds", "Files and connections that are open.", len(os.listdir("/proc/self/fd")))
    found.gauge("process_start_time_seconds", "When the daemon started.", booted_s + int(fields[19]) / ticks)


def _of_requests(found: _Metrics, parts: Parts) -> None:
    activity = parts.activity
    found.gauge("btmd_http_requests_under_way", "Requests that are being answered.", activity.under_way)
    found.add(
        "btmd_http_requests_total",
        "counter",
        "Requests that were answered, by status.",
        [({"status": status}, count) for status, count in sorted(activity.answered.items())],
    )


async def _of_log(found: _Metrics, parts: Parts) -> None:
    health, sizes = parts.store.health(), await parts.store.query(log_sizes)
    found.counter("btmd_events_total", "Events in the log.", health["head_seq"])
    found.gauge("btmd_log_waiting", "Events that wait to be written.", health["waiting"])
    found.histogram(
        "btmd_log_append_seconds", "From asking for an append to knowing that it is kept.", parts.store.acknowledged
    )
    found.gauge("btmd_log_writable", "1 while the log takes events.", health["writer"] == "running")
    found.gauge("btmd_log_bytes", "Size of the database.", sizes.database_bytes)
    found.gauge("btmd_log_wal_bytes", "Size of its write-ahead log.", health["wal_size_bytes"])
    async with parts.store.session() as session:
        made, proved = await backups(session), await last_drill(session, proved=True)
    found.gauge("btmd_backups", "Backups there are.", len(made))
    found.gauge(
        "btmd_last_backup_timestamp_seconds",
        "When the newest backup was made.",
        made[0].created_us / 1e6 if made else None,
    )
    found.gauge(
        "btmd_last_proved_restore_timestamp_seconds",
        "When a backup was last proved to be restorable.",
        None if proved is None else proved.at_us / 1e6,
    )


async def _of_jobs(found: _Metrics, parts: Parts) -> None:
    async with parts.store.session() as session:
        counted = dict((await session.exec(select(JobRow.state, func.count()).group_by(col(JobRow.state)))).all())
        running, open_now = await running_jobs(session), await open_warnings(session)
    found.add("btmd_jobs", "gauge", "Trainings by state.", [({"state": one}, counted.get(one, 0)) for one in STATES])
    for name, text, values in (
        ("btmd_job_step", "Steps of a training at work.", {row.job_id: row.step for row in running}),
        ("btmd_job_steps", "Steps that it is to take.", {row.job_id: row.total_steps for row in running}),
        ("btmd_job_loss", "Its last loss.", {row.job_id: row.loss for row in running}),
        ("btmd_job_tokens_per_second", "Its speed.", {row.job_id: row.tokens_per_s for row in running}),
        ("btmd_job_memory_bytes", "Memory of its process.", {row.job_id: row.memory_bytes for row in running}),
    ):
        found.add(name, "gauge", text, [({"job_id": job_id}, value) for job_id, value in values.items()])
    kinds = Counter(one.kind for one in open_now)
    found.add("btmd_warnings", "gauge", "Warnings of trainings at work.", [({"kind": k}, n) for k, n in kinds.items()])


def _of_machine(found: _Metrics, machine: Hardware, state_dir: Path) -> None:
    space = os.statvfs(state_dir)
    found.gauge("btmd_disk_free_bytes", "Free room where the state lies.", space.f_bavail * space.f_frsize)
    found.gauge("btmd_memory_available_bytes", "Memory that a training could have.", machine.memory.available_bytes)
    for name, text, values in (
        ("btmd_gpu_memory_bytes", "Memory of a GPU.", {gpu.index: gpu.total_bytes for gpu in machine.gpus}),
        ("btmd_gpu_memory_free_bytes", "Of that, free.", {gpu.index: gpu.free_bytes for gpu in machine.gpus}),
    ):
        found.add(name, "gauge", text, [({"gpu": index}, value) for index, value in values.items()])
