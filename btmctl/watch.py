"""A training as it goes on: a live screen, a line for each change, or JSON lines."""

import time
from collections.abc import Iterator
from typing import Protocol

from btmctl.client import Document
from btmctl.errors import DONE, FAILED, INTERRUPTED, ConnectionLost, ServerRefused, Unreachable
from btmctl.output import Output
from btmctl.session import Session
from btmctl.training import Forecast, forecast_fields

ENDED = ("completed", "failed", "cancelled")
RESTING = (*ENDED, "paused")
REFRESH_S = 0.5
"""Progress is asked for at most this often while ticks come in."""
FORETOLD = ("time", "memory", "GPU memory")
SILENCE_S = 60.0
"""The daemon sends a sign of life every 15 s; after four of them missed it counts as away."""


class View(Protocol):
    """Somewhere to show progress; the forecast is empty once real figures have come."""

    def show(self, progress: Document, forecast: Forecast) -> None: ...

    def away(self, text: str) -> None: ...

    def close(self) -> None: ...


def watch(job_id: str, session: Session, *, fail_with_job: bool = False) -> int:
    """Show a job until it ends or is paused; Ctrl-C leaves it running.

    Returns 130 after Ctrl-C; with ``fail_with_job``, 1 when the job failed or was cancelled.
    """
    output = session.output
    last = follow(job_id, session, view_for(output))
    if last is None:
        return INTERRUPTED
    if not output.as_json:
        output.line(f"{last['status']} {last['status_message']}")
        if last["state"] in ENDED:
            show_result(session.client.get(f"/result/{job_id}"), output)
    return FAILED if fail_with_job and last["state"] in ("failed", "cancelled") else DONE


def follow(job_id: str, session: Session, view: View) -> Document | None:
    """Show a job in ``view`` until it rests and return its last progress; None after Ctrl-C (it goes on)."""
    last: Document = {}
    try:
        for last, forecast in changes(job_id, session, view):
            view.show(last, forecast)
    except KeyboardInterrupt:
        view.close()
        session.output.say(f"Not watching any more; the training goes on. btmctl jobs watch {job_id} shows it again.")
        return None
    finally:
        view.close()
    return last


def changes(job_id: str, session: Session, view: View) -> Iterator[tuple[Document, Forecast]]:
    """The job's progress as it stands with its forecast, and again after each change, until it rests.

    Events say that something changed; when the daemon restarts, it goes on after the last one seen.
    """
    client = session.client
    after: int | None = None
    while True:
        try:
            fresh = 0.0
            streams = [f"job-{job_id}", f"ticks-{job_id}", f"watch-{job_id}"]
            # The first thing to come is a comment; nothing is missed after it, so progress is asked for then.
            for event in client.events(after, follow=True, timeout_s=SILENCE_S, stream=streams):
                if event is not None:
                    after = event["seq"]
                is_tick = event is not None and event["stream"].startswith("ticks-")
                if is_tick and time.monotonic() - fresh < REFRESH_S:
                    continue
                progress: Document = client.get(f"/progress/{job_id}")
                fresh = time.monotonic()
                yield progress, _forecast(progress, session)
                if progress["state"] in RESTING:
                    return
        except (ConnectionLost, Unreachable):
            session.reconnect(view.away)
        except ServerRefused as error:
            if error.status != 503:
                raise
            view.away(error.why)
            time.sleep(1)


def _forecast(progress: Document, session: Session) -> Forecast:
    if progress["state"] in (*RESTING, "evaluating") or progress.get("remaining_s") is not None:
        return []
    # Asked for anew each time: a trial before the first step betters it.
    job = session.client.get(f"/jobs/{progress['job_id']}")
    return [field for field in forecast_fields(job) if field[0] in FORETOLD]


def show_result(result: Document, output: Output) -> None:
    output.line()
    output.paragraph(result["performance_summary"])
    output.fields([("result", result.get("model_path"))])
    parts = ("On the way", "account"), ("Warnings", "warnings"), ("Advice", "recommendations"), ("Next", "next_steps")
    for title, key in parts:
        texts = result.get(key) or []
        if texts:
            output.line()
            output.line(title, "bold")
        for text in texts:
            output.paragraph(text, indent="  ")


def view_for(output: Output) -> View:
    """A live screen at a terminal, JSON lines or lines of text elsewhere."""
    if output.as_json:
        return JsonView(output)
    if output.is_terminal:
        from btmctl.live import LiveView

        return LiveView()
    return LineView(output)


class JsonView:
    """One progress document a line."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def show(self, progress: Document, forecast: Forecast) -> None:
        self._output.json_line(progress)

    def away(self, text: str) -> None:
        """Nothing is printed: the stream goes on when the daemon is back."""

    def close(self) -> None:
        """Nothing is held open."""


class MessageView:
    """Progress among the messages, where standard output is kept for something else."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def show(self, progress: Document, forecast: Forecast) -> None:
        self._output.progress(progress["progress_percentage"] / 100, progress["status_message"])

    def away(self, text: str) -> None:
        self._output.progress_text(text)

    def close(self) -> None:
        self._output.end_progress()


class LineView:
    """A line when the state or the held-out loss changes, and for every twentieth of the way."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._said: tuple[object, ...] = ()
        self._foretold: Forecast = []
        self._warned: list[str] = []
        self._away = False

    def show(self, progress: Document, forecast: Forecast) -> None:
        self._away = False
        self._say_forecast(forecast)
        self._warn(progress)
        share = progress["progress_percentage"]
        training = progress["state"] == "training"
        news = (progress["state"], share // 5, progress.get("held_out_loss") if training else None)
        if news == self._said:
            return
        self._said = news
        parts = [f"{share:5.1f} %", progress["status"]]
        if training:
            parts[1] = f"step {progress['current_step']} of {progress['total_steps']}"
            parts += [f"{label} {value:.4f}" for label, value in _losses(progress) if value is not None]
            if progress.get("remaining_s") is not None:
                parts.append(f"remaining {progress['estimated_remaining']}")
        self._output.line("  ".join(parts))

    def _warn(self, progress: Document) -> None:
        """Each warning once, for as long as it holds, and with its advice."""
        present = [str(one) for one in progress.get("warnings") or ()]
        if any(one not in self._warned for one in present):
            for text in (*present, *(progress.get("recommendations") or ())):
                if text not in self._warned:
                    self._output.line(f"{'!' if text in present else '>'} {text}")
        self._warned = [*present, *(progress.get("recommendations") or ())]

    def _say_forecast(self, forecast: Forecast) -> None:
        if forecast and forecast != self._foretold:
            self._output.line("forecast  " + ", ".join(f"{name} {said}" for name, said in forecast))
            self._foretold = forecast

    def away(self, text: str) -> None:
        if not self._away:
            self._output.say(text)
        self._away = True

    def close(self) -> None:
        """Nothing is held open."""


def _losses(progress: Document) -> list[tuple[str, float | None]]:
    return [("loss", progress.get("current_loss")), ("held-out", progress.get("held_out_loss"))]
