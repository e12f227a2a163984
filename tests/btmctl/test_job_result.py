"""What came of a training, as it is shown: the verdict, then answers to the same questions before and after."""

from tests.btmctl.conftest import Btmctl
from tests.btmctl.small_server import SmallServer

RESULT = {
    "job_id": "abcdefghij",
    "performance_summary": "It was worth it.",
    "model_path": "/somewhere/result",
    "warnings": [],
    "recommendations": [],
    "next_steps": ["Train again: `btmctl train m d --set num_epochs=4`"],
}


def _samples(count: int) -> dict[str, object]:
    long = "word " * 200
    return {
        "samples": [
            {"prompt_text": f"Question {n}?", "expected": "Yes.", "base": long + "END", "tuned": f"Answer {n}."}
            for n in range(count)
        ]
    }


def test_answers_before_and_after_are_shown_unasked_and_in_full_when_asked(server: SmallServer, btmctl: Btmctl) -> None:
    server.answers("GET", "/jobs/last", {"job_id": "abcdefghij"})
    server.answers("GET", "/result/abcdefghij", RESULT)
    server.answers("GET", "/jobs/abcdefghij/answers", _samples(5))
    code, out, err = btmctl("jobs", "result", "last")
    assert code == 0
    assert "Question 2?" in out
    assert "Question 3?" not in out
    assert "after: Answer 0." in out
    assert "END" not in out
    assert "btmctl jobs result abcdefghij --answers shows all 5" in err
    _, out, err = btmctl("jobs", "result", "last", "--answers")
    assert "Question 4?" in out
    assert "END" in out
    assert "--answers" not in err


def test_a_job_without_answers_shows_its_result_all_the_same(server: SmallServer, btmctl: Btmctl) -> None:
    server.answers("GET", "/jobs/last", {"job_id": "abcdefghij"})
    server.answers("GET", "/result/abcdefghij", RESULT)
    server.answers("GET", "/jobs/abcdefghij/answers", {"detail": "There are none.", "code": "not_found"}, status=404)
    code, out, _ = btmctl("jobs", "result", "last")
    assert (code, "It was worth it." in out) == (0, True)
    assert btmctl("jobs", "result", "last", "--answers")[0] == 5
