"""Watching a training: lines, JSON lines, the live screen; a lost daemon, Ctrl-C, and how the job ended."""

import io
import json
import signal
import subprocess
import sys
from typing import Any

import pytest
from rich.console import Console, Group

from btmctl.live import screen
from tests.btmctl.conftest import Btmctl
from tests.btmctl.small_server import Request, SmallServer, chunked, reply

RESULT = {
    "job_id": "abc",
    "performance_summary": "The model got clearly better.",
    "next_steps": ["`btmctl chat abc` talks to it."],
}


def progress(state: str = "training", step: int = 1, **changed: object) -> dict[str, Any]:
    return {
        "job_id": "abc",
        "model_name": "tiny",
        "state": state,
        "status": {"training": "Training in progress", "completed": "Training completed!"}.get(state, state),
        "progress_percentage": 100.0 if state == "completed" else step * 10.0,
        "current_step": step,
        "total_steps": 10,
        "current_epoch": 0,
        "total_epochs": 1,
        "elapsed_time": "5s",
        "elapsed_s": 5.0,
        "estimated_remaining": "12s",
        "remaining_s": 12.0,
        "current_loss": 1.5,
        "best_loss": 1.4,
        "held_out_loss": None,
        "status_message": f"Step {step} of 10.",
        "warnings": [],
        "recommendations": [],
        **changed,
    }


UNKNOWN = {"estimated_remaining": "Calculating...", "remaining_s": None}
FORETOLD = {"time": "2m 5s to 3m 40s", "memory": "0.9 GB to 1.2 GB", "disk": "40 MB", "step": "1.1 to 1.3 s"}


class Job:
    """A job whose progress goes one further each time it is asked for, with a tick for each."""

    def __init__(self, server: SmallServer, documents: list[dict[str, Any]], *, cut_after: int = 1_000) -> None:
        self.documents = documents
        self.at = 0
        self.asked_after: list[str | None] = []
        self._cut_after = cut_after
        server.answers("GET", "/jobs/abc", {"job_id": "abc"})
        server.does("GET", "/progress/abc", self.progress)
        server.does("GET", "/events", self.events)
        server.answers("GET", "/result/abc", RESULT)

    def progress(self, request: Request) -> None:
        document = self.documents[min(self.at, len(self.documents) - 1)]
        self.at += 1
        reply(request, document)

    def events(self, request: Request) -> None:
        assert request.query["stream"] == ["job-abc", "ticks-abc", "watch-abc"]
        self.asked_after.append(request.query.get("after", [None])[0])
        pieces = [b": btmd\n\n"]
        begin = 10 * len(self.asked_after)
        for seq in range(begin, begin + min(self._cut_after, len(self.documents))):
            pieces.append(b'id: %d\ndata: {"seq": %d, "stream": "job-abc"}\n\n' % (seq, seq))
        chunked(request, pieces, media_type="text/event-stream", complete=False)


def test_without_a_terminal_there_is_a_line_for_each_change_and_the_result(btmctl: Btmctl, server: SmallServer) -> None:
    Job(server, [progress("preparing", 0), progress(step=1), progress(step=1), progress(step=5), progress("completed")])
    code, out, _ = btmctl("jobs", "watch", "abc")
    lines = out.splitlines()
    assert code == 0
    assert [line for line in lines if "step 1 of 10" in line] == [
        " 10.0 %  step 1 of 10  loss 1.5000  remaining 12s",
    ]
    assert "Training completed! Step 1 of 10." in lines
    assert "The model got clearly better." in lines
    assert "\x1b" not in out


def test_the_forecast_is_told_before_the_first_step_and_again_when_the_trial_betters_it(
    btmctl: Btmctl, server: SmallServer
) -> None:
    documents = [progress("preparing", 0, **UNKNOWN), *[progress(step=1, **UNKNOWN)] * 2, progress(step=5)]
    job = Job(server, [*documents, progress("completed")])

    def show(request: Request) -> None:
        time = "2m 5s to 3m 40s" if job.at <= 1 else "2m 30s to 3m 0s"
        reply(request, {"job_id": "abc", "forecast_texts": {**FORETOLD, "time": time}})

    server.does("GET", "/jobs/abc", show)
    code, out, _ = btmctl("jobs", "watch", "abc")
    assert (code, out.splitlines()[:5]) == (
        0,
        [
            "forecast  time 2m 5s to 3m 40s, memory 0.9 GB to 1.2 GB",
            "  0.0 %  preparing",
            "forecast  time 2m 30s to 3m 0s, memory 0.9 GB to 1.2 GB",
            " 10.0 %  step 1 of 10  loss 1.5000",
            " 50.0 %  step 5 of 10  loss 1.5000  remaining 12s",
        ],
    )


@pytest.mark.parametrize("width", [40, 80])
def test_the_live_screen_shows_the_forecast_until_the_remaining_time_is_known(width: int) -> None:
    forecast: list[tuple[str, object]] = [("time", FORETOLD["time"]), ("memory", FORETOLD["memory"])]
    waiting = shown(screen(progress("preparing", 0, **UNKNOWN), width, forecast=forecast), width)
    assert "forecast time" in waiting
    assert "2m 5s to 3m 40s" in waiting
    assert "0.9 GB to 1.2 GB" in waiting
    assert "Calculating" not in waiting
    assert max(map(len, waiting.splitlines())) <= width
    assert "forecast" not in shown(screen(progress(step=5), width), width)


def test_as_json_there_is_one_object_a_line(btmctl: Btmctl, server: SmallServer) -> None:
    Job(server, [progress(step=1), progress(step=2), progress("completed")])
    code, out, err = btmctl("jobs", "watch", "abc", "--json")
    assert (code, err) == (0, "")
    assert [json.loads(line)["state"] for line in out.splitlines()] == ["training", "training", "completed"]


def test_a_lost_connection_goes_on_after_the_last_event_seen(btmctl: Btmctl, server: SmallServer) -> None:
    job = Job(server, [progress(step=1), progress(step=2), progress(step=3), progress("completed")], cut_after=1)
    code, out, _ = btmctl("jobs", "watch", "abc", "--json")
    assert code == 0
    assert json.loads(out.splitlines()[-1])["state"] == "completed"
    assert job.asked_after == [None, "10"]


@pytest.mark.parametrize(("state", "exit_code"), [("completed", 0), ("failed", 1), ("cancelled", 1)])
def test_a_watched_training_ends_with_the_exit_code_of_its_outcome(
    btmctl: Btmctl, server: SmallServer, state: str, exit_code: int
) -> None:
    Job(server, [progress(step=1), progress(state)])
    server.answers("GET", "/models/tiny", {"model_id": "tiny"})
    server.answers("GET", "/datasets/rows", {"dataset_id": "rows"})
    server.answers("POST", "/start", {"job_id": "abc", "message": "Training has been queued."})
    assert btmctl("train", "tiny", "rows", "--watch")[0] == exit_code
    assert btmctl("jobs", "watch", "abc")[0] == 0


def test_a_paused_job_is_not_waited_for(btmctl: Btmctl, server: SmallServer) -> None:
    Job(server, [progress("paused", status_message="Paused at step 3.")])
    code, out, _ = btmctl("jobs", "watch", "abc")
    assert code == 0
    assert "Paused at step 3." in out


def test_ctrl_c_leaves_the_training_running_and_says_so(server: SmallServer) -> None:
    Job(server, [progress(step=1)])
    program = subprocess.Popen(
        [sys.executable, "-m", "btmctl", "jobs", "watch", "abc", "--json", "--socket", server.socket_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    program.stdout.readline()
    program.send_signal(signal.SIGINT)
    _, err = program.communicate(timeout=30)
    assert program.returncode == 130
    assert "the training goes on" in err
    assert "Traceback" not in err
    assert not any(method == "POST" for method, _ in server.seen)


def test_a_warning_is_said_once_with_its_advice_and_again_when_it_came_back(
    btmctl: Btmctl, server: SmallServer
) -> None:
    warned = {"warnings": ["Steps take 3 s each."], "recommendations": ["Look: `btmctl hardware`"]}
    Job(
        server,
        [
            progress(step=1, **warned),
            progress(step=2, **warned),
            progress(step=3),
            progress(step=4, **warned),
            progress("paused", step=4),
        ],
    )
    _, out, _ = btmctl("jobs", "watch", "abc")
    assert out.count("! Steps take 3 s each.") == out.count("> Look: `btmctl hardware`") == 2


def test_a_job_is_shown_with_what_is_wrong_now_and_not_with_what_was(btmctl: Btmctl, server: SmallServer) -> None:
    job = {"job_id": "abc", "state": "training", "model_id": "m", "dataset_id": "d"}
    present = {"text": "It hangs.", "advice": "Look: `btmctl jobs logs abc`", "withdrawn_at": None}
    past = {"text": "It was slow.", "advice": "Wait.", "withdrawn_at": "2026-11-22T14:00:00.000000Z"}
    server.answers("GET", "/jobs/abc", {**job, "warnings": [present, past]})
    _, out, _ = btmctl("jobs", "show", "abc")
    assert "It hangs." in out
    assert "btmctl jobs logs abc" in out
    assert "It was slow." not in out
    _, out, _ = btmctl("jobs", "show", "abc", "--json")
    assert "It was slow." in out


def shown(drawn: Group, width: int) -> str:
    written = io.StringIO()
    Console(file=written, width=width, height=24, color_system=None).print(drawn)
    return written.getvalue()


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_live_screen_fits_its_terminal(width: int) -> None:
    document = progress(
        step=5,
        held_out_loss=0.9,
        tokens_per_second=402.3,
        memory_usage_gb=1.2,
        remaining_range="10s to 14s",
        model_name="\x1b[31mred",
        status_message="Pass 1 of 1 over your data, step 5 of 10. It should be finished at about 14:32.",
        warnings=["The disk fills up."],
    )
    text = shown(screen(document, width, age_s=3.0), width)
    assert max(map(len, text.splitlines())) <= width
    for part in ("50.0 %", "0.9000", "402 tokens/s", "elapsed", "8s", "10s to 14s", "! The disk fills up.", "Ctrl-C"):
        assert part in text
    assert "\x1b" not in text
