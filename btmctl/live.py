"""The live screen of a training."""

import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from btmctl.client import Document
from btmctl.training import Forecast
from btmd.control_characters import clean

FRAMES_PER_S = 2
WIDEST_BAR = 60


class LiveView:
    """Draws the latest progress again and again, so that the clock moves between two reports."""

    def __init__(self) -> None:
        self._console = Console()
        self._progress: Document = {}
        self._forecast: Forecast = []
        self._received_s = 0.0
        self._away = ""
        self._live = Live(
            get_renderable=self._draw, console=self._console, refresh_per_second=FRAMES_PER_S, transient=True
        )
        self._started = False

    def show(self, progress: Document, forecast: Forecast) -> None:
        self._progress, self._forecast = progress, forecast
        self._received_s, self._away = time.monotonic(), ""
        if not self._started:
            self._live.start()
            self._started = True

    def away(self, text: str) -> None:
        self._away = text

    def close(self) -> None:
        if self._started:
            self._live.stop()
            self._started = False

    def _draw(self) -> RenderableType:
        if not self._progress:
            return Text("Waiting for the daemon...")
        age_s = time.monotonic() - self._received_s
        return screen(self._progress, self._console.width, age_s, self._away, self._forecast)


def screen(
    progress: Document, width: int, age_s: float = 0.0, away: str = "", forecast: Forecast | None = None
) -> Group:
    """Everything about a training that fits ``width`` columns; ``age_s`` is how old the progress is.

    ``forecast`` stands in for the time that remains until that is known.
    """
    lines: list[Text] = [
        Text.assemble((clean(str(progress["model_name"])), "bold"), "  ", (f"job {progress['job_id']}", "dim")),
        _bar(float(progress["progress_percentage"]), width),
        Text(),
        Text(away or clean(f"{progress['status_message']}"), style="yellow" if away else ""),
        Text(),
    ]
    facts = _facts(progress, 0.0 if away else age_s, forecast or [])
    label_width = max(len(label) for label, _ in facts)
    for label, value in facts:
        lines.append(Text.assemble((f"{label:<{label_width}}  ", "dim"), value))
    for warning in progress.get("warnings") or []:
        lines.append(Text(f"! {clean(str(warning))}", style="yellow"))
    for advice in progress.get("recommendations") or []:
        lines.append(Text(f"> {clean(str(advice))}", style="cyan"))
    lines += [Text(), Text("Ctrl-C leaves it running.", style="dim")]
    return Group(*lines)


def _bar(percentage: float, width: int) -> Text:
    room = max(10, min(WIDEST_BAR, width - 9))
    full = int(room * percentage / 100)
    return Text.assemble(("█" * full, "green"), ("░" * (room - full), "dim"), f" {percentage:5.1f} %")


def _facts(progress: Document, age_s: float, forecast: Forecast) -> list[tuple[str, str]]:
    working = progress["state"] not in ("queued", "paused", "needs_attention")
    elapsed_s = float(progress.get("elapsed_s") or 0.0) + (age_s if working else 0.0)
    facts: list[tuple[str, str]] = [("state", str(progress["status"]))]
    if progress["total_steps"]:
        passes = f"pass {progress['current_epoch'] + 1} of {progress['total_epochs']}"
        facts.append(("step", f"{progress['current_step']} of {progress['total_steps']}, {passes}"))
    if progress.get("current_loss") is not None:
        best = progress.get("best_loss")
        facts.append(("loss", f"{progress['current_loss']:.4f}" + ("" if best is None else f" (best {best:.4f})")))
    if progress.get("held_out_loss") is not None:
        least = progress.get("held_out_best")
        facts.append(
            ("held-out loss", f"{progress['held_out_loss']:.4f}" + ("" if least is None else f" (best {least:.4f})"))
        )
    if progress.get("learning_rate") is not None:
        facts.append(("learning rate", f"{progress['learning_rate']:.3g}"))
    if progress.get("tokens_per_second"):
        facts.append(("speed", f"{progress['tokens_per_second']:.0f} tokens/s"))
    if progress.get("memory_usage_gb") is not None:
        facts.append(("memory", f"{progress['memory_usage_gb']:.1f} GB"))
    if progress.get("gpu_utilization") is not None:
        facts.append(("GPU", f"{progress['gpu_utilization']:.0f} %"))
    if progress.get("disk_free_gb") is not None:
        facts.append(("disk", f"{progress['disk_free_gb']:.1f} GB free{_taken(progress)}"))
    facts.append(("elapsed", duration(elapsed_s)))
    return facts + _to_come(progress, forecast)


def _taken(progress: Document) -> str:
    used = progress.get("disk_used_gb")
    return f", checkpoints take {used:.1f} GB" if used else ""


def _to_come(progress: Document, forecast: Forecast) -> list[tuple[str, str]]:
    if forecast:
        return [(f"forecast {name}", f"{said} in all" if name == "time" else str(said)) for name, said in forecast]
    if progress["state"] == "evaluating":
        return []
    remaining = str(progress["estimated_remaining"])
    spread = progress.get("remaining_range")
    return [("remaining", f"{remaining} ({spread})" if spread else remaining)]


def duration(seconds: float) -> str:
    """Seconds in the form of REST: ``1h 5m``, ``3m 20s``, ``12s``."""
    whole = int(seconds)
    if whole >= 3600:
        return f"{whole // 3600}h {whole % 3600 // 60}m"
    return f"{whole // 60}m {whole % 60}s" if whole >= 60 else f"{whole}s"
