"""Answering what a training asks, and seeing what happened on its way."""

from typing import Any

import pytest

from tests.btmctl.conftest import Btmctl
from tests.btmctl.small_server import Request, SmallServer, reply


@pytest.mark.parametrize("answer", ["yes", "no"])
def test_an_answer_is_sent_and_what_follows_is_said(server: SmallServer, btmctl: Btmctl, answer: str) -> None:
    sent: list[Any] = []

    def take(request: Request) -> None:
        sent.append(request.json())
        reply(request, {"job_id": "abcdefghij", "state": "recovering", "message": "It goes on."}, 200)

    server.does("POST", "/jobs/last/answer", take)
    code, _, err = btmctl("jobs", "answer", "last", answer)
    assert (code, sent) == (0, [{"yes": answer == "yes"}])
    assert "It goes on." in err


def test_another_word_is_no_answer(server: SmallServer, btmctl: Btmctl) -> None:
    assert btmctl("jobs", "answer", "last", "maybe")[0] == 2
    assert server.seen == []


def test_a_job_shows_what_happened_on_the_way_and_what_was_changed(server: SmallServer, btmctl: Btmctl) -> None:
    job = {
        "job_id": "abcdefghij",
        "state": "completed",
        "model_id": "m",
        "dataset_id": "d",
        "account": ["Attempt 1: The memory was not enough. It computes 4 rows at once from now on."],
        "changed": ["The number of rows computed at once was 8 in the plan and is 4."],
    }
    server.answers("GET", "/jobs/last", job)
    code, out, _ = btmctl("jobs", "show", "last")
    assert code == 0
    assert out.index("On the way") < out.index("Attempt 1") < out.index("Changed against the plan") < out.index("8 in")
