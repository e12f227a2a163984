"""A training once more, and two side by side in a table that fits a terminal."""

from tests.btmctl.conftest import Btmctl
from tests.btmctl.small_server import SmallServer, reply

ROWS = [
    {
        "key": "target_modules",
        "title": "lora_target_modules",
        "values": [[], ["q"]],
        "texts": ["all", "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, and_many_more"],
        "better": None,
    }
]
FOUND = {
    "job_ids": ["abcdefghij", "klmnopqrst"],
    "settings": ROWS,
    "figures": [
        {"key": "x", "title": "held-out loss after", "values": [2, 1], "texts": ["2.0000", "1.0000"], "better": 1}
    ],
    "same_rows": True,
    "summary": "Job klmnopqrst came out better.",
}


def test_a_comparison_fits_eighty_columns_and_marks_the_better_one(server: SmallServer, btmctl: Btmctl) -> None:
    server.answers("GET", "/jobs/one/comparison/last", FOUND)
    code, out, _ = btmctl("jobs", "compare", "one", "last")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert "1.0000 *" in out
    assert "2.0000 *" not in out
    assert btmctl("jobs", "compare", "one", "last", "--json")[1].startswith("{")


def test_a_repetition_prints_its_id_and_says_what_may_make_it_differ(server: SmallServer, btmctl: Btmctl) -> None:
    bodies = []

    def rerun(request: object) -> None:
        bodies.append(request.json())  # type: ignore[attr-defined]
        answer = {"job_id": "klmnopqrst", "message": "It is repeated.", "remarks": ["torch was 1 then and is 2 now."]}
        reply(request, answer)  # type: ignore[arg-type]

    server.does("POST", "/jobs/last/rerun", rerun)
    code, out, err = btmctl("jobs", "rerun", "last", "--name", "again")
    assert (code, out) == (0, "klmnopqrst\n")
    assert "torch was 1" in err
    assert bodies == [{"name": "again", "priority": 0, "dry_run": False}]


def test_a_refused_repetition_says_what_has_changed(server: SmallServer, btmctl: Btmctl) -> None:
    problem = {
        "code": "not_repeatable",
        "title": "No",
        "detail": "It cannot: the model changed.",
        "hint": "Train anew.",
    }
    server.answers("POST", "/jobs/last/rerun", problem, status=409)
    code, _, err = btmctl("jobs", "rerun", "last")
    assert code == 6
    assert "the model changed" in err
