"""The preview at a terminal and in a pipe: what is learned is told by colour and by marks, and nothing steers it."""

import io
import json
from typing import Any

import pytest

from btmctl import row_view
from btmctl.output import Output, columns
from tests.btmctl.conftest import Btmctl
from tests.btmctl.small_server import Request, SmallServer, reply

TOKENS = [
    ("<|im_start|>", False, True),
    ("user", False, False),
    ("\n", False, False),
    ("Why", False, False),
    ("", False, False),
    ("日本", False, False),
    ("?\x1b[2J", False, False),
    ("<|im_end|>", False, True),
    ("\n", False, False),
    ("Be", True, False),
    ("cause", True, False),
    (".\n\n", True, False),
    ("So", True, False),
    ("<|im_end|>", True, True),
    ("\n", False, False),
]
SEQUENCE: dict[str, Any] = {
    "name": "conversation",
    "tokens": 20,
    "learned_tokens": 5,
    "ids": list(range(len(TOKENS))),
    "texts": [text for text, _, _ in TOKENS],
    "learned": [learned for _, learned, _ in TOKENS],
    "marks": [mark for _, _, mark in TOKENS],
}
PLAIN = """\
  ‹<|im_start|>›|user|⏎
  Why||日本|?\\x1b[2J|‹<|im_end|>›|⏎
+ Be|cause|.⏎
+ ⏎
+ So|‹<|im_end|>›
  ⏎
  ... and 5 more tokens
"""


def drawn(sequence: dict[str, Any], width: int = 1000) -> str:
    return "".join("".join(text for text, _ in line) + "\n" for line in plain_lines(sequence, width))


def plain_lines(sequence: dict[str, Any], width: int) -> list[row_view.Line]:
    return list(row_view.token_lines(sequence, width=width, coloured=False))


def test_without_colour_marks_say_what_is_learned() -> None:
    assert drawn(SEQUENCE) == PLAIN


@pytest.mark.parametrize("width", [14, 20, 33, 80])
def test_lines_keep_inside_the_terminal_and_lose_nothing(width: int) -> None:
    long = {**SEQUENCE, "texts": [text * 9 for text in SEQUENCE["texts"]]}
    lines = drawn(long, width).splitlines()[:-1]
    assert all(columns(line) <= width for line in lines)
    assert "".join(line[2:] for line in lines) == "".join(line[2:] for line in drawn(long).splitlines()[:-1])
    assert {line[:2] for line in lines} == {"+ ", "  "}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colour_is_for_a_terminal_that_wants_it(environment: dict[str, str], coloured: bool) -> None:
    written = Terminal()
    output = Output(environment=environment, stdout=written)
    for line in row_view.token_lines(SEQUENCE, width=60, coloured=output.coloured):
        output.pieces(line)
    said = written.getvalue()
    assert ("\x1b[32mcause\x1b[0m" in said) is coloured
    assert ("\x1b[36m<|im_end|>\x1b[0m" in said) is coloured
    assert "\x1b[2J" not in said
    if not coloured:
        assert said == PLAIN


ROW = {
    "row": 1,
    "line": 7,
    "file": "",
    "number": 7,
    "split": None,
    "messages": [
        {"role": "user", "content": "Why?\x1b]0;owned\x07\r\nTell me.", "more_chars": 0},
        {"role": "assistant", "content": "word " * 200, "more_chars": 9},
    ],
    "rejected": [],
    "more_turns": 0,
    "text": None,
    "sequences": [SEQUENCE],
    "more_sequences": 0,
    "use": "used",
    "refusal": "",
    "held_out": False,
}
FOUND: dict[str, Any] = {
    "dataset_id": "faq",
    "name": "faq",
    "version_id": "0a1b2c3d4e5f6071",
    "layout": "question_answer",
    "unit": "line",
    "columns": ["question", "answer", "id"],
    "columns_used": ["question", "answer"],
    "columns_as": {"prompt": "question", "completion": "answer"},
    "rows_total": 1234,
    "rows": [ROW],
}
TRAINING: dict[str, Any] = {
    "model_id": "tiny",
    "template": "plain",
    "training": {
        "training_type": "lora_adaptation",
        "packing": False,
        "max_length": 512,
        "batch_size": 4,
        "micro_batch_size": 2,
        "preset": "Quick Test",
    },
    "refusal": None,
    "arrangement": {
        "rows": 1234,
        "train_rows": 1000,
        "held_out_rows": 100,
        "blocks": 1000,
        "tokens_an_epoch": 90_000,
        "learned_tokens_an_epoch": 40_000,
        "steps_an_epoch": 250,
        "left_out": {"over_long": 134},
        "left_out_lines": {"over_long": [3, 5, 8, 13, 21, 34]},
        "first_step": [
            {
                "tokens": 700,
                "sequences": [
                    {"block": 1, "row": 4, "line": 4, "tokens": 400, "learned_tokens": 9},
                    {"block": 2, "row": 9, "line": 9, "tokens": 150, "learned_tokens": 9},
                    {"block": 2, "row": 9, "line": 9, "tokens": 150, "learned_tokens": 9},
                ],
            }
        ],
    },
}


def asked(server: SmallServer, found: dict[str, Any]) -> list[dict[str, Any]]:
    bodies: list[dict[str, Any]] = []

    def answer(request: Request) -> None:
        bodies.append(request.json())
        reply(request, {"result": found})

    server.does("POST", "/datasets/faq/preview", answer)
    server.answers("GET", "/models/tiny", {"model_id": "tiny"})
    return bodies


def test_rows_are_shown_with_their_columns_and_steer_nothing(btmctl: Btmctl, server: SmallServer) -> None:
    bodies = asked(server, {**FOUND, "rows": [ROW, ROW]})
    code, out, _ = btmctl("datasets", "preview", "faq", "--line", "7")
    assert (code, bodies) == (0, [{"rows": 3, "line": 7}])
    assert "question is the prompt, answer is the completion" in out
    assert "not used  id" in out
    assert "  user       Why?\\x1b]0;owned\\x07\n             Tell me.\n" in out
    assert "and 409 more characters" in out
    assert "\x1b" not in out


def test_tokens_are_shown_with_what_is_left_out_and_computed_together(btmctl: Btmctl, server: SmallServer) -> None:
    bodies = asked(server, {**FOUND, **TRAINING})
    code, out, _ = btmctl("datasets", "preview", "faq", "--tokens", "--model", "tiny", "--set", "max_length=512")
    assert (code, bodies) == (0, [{"rows": 3, "model_id": "tiny", "overrides": {"max_length": 512}}])
    assert PLAIN in out
    assert "row 1, line 7: 20 tokens, 5 learned" in out
    assert "134 longer than 512 tokens (line 3, 5, 8, 13, 21, ...)" in out
    assert "250 steps, 90,000 tokens, of which 40,000 are learned" in out
    assert "micro-batch 1: 700 tokens\n    line 4: 400 tokens\n    line 9: 300 tokens (150 + 150)" in out
    assert "a plain chat template" in out


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"use": "over_long"}, "left out whole, as it is longer than 512"),
        ({"use": "nothing_learned"}, "left out, as there is nothing to learn"),
        ({"held_out": True}, "held out: the 5 marked ones are measured, not learned"),
        ({"use": "untemplated", "refusal": "Roles must alternate.", "sequences": []}, "Roles must alternate."),
    ],
)
def test_a_row_that_is_not_learned_says_why(
    change: dict[str, Any], expected: str, btmctl: Btmctl, server: SmallServer
) -> None:
    asked(server, {**FOUND, **TRAINING, "rows": [{**ROW, **change}]})
    _, out, _ = btmctl("datasets", "preview", "faq", "--tokens", "--model", "tiny")
    assert expected in out


def test_a_row_of_a_folder_is_named_by_its_file(btmctl: Btmctl, server: SmallServer) -> None:
    row = {**ROW, "file": "storms/\x1b[2Jfirst.pdf", "number": 2}
    asked(server, {**FOUND, "unit": "page", "rows": [row]})
    _, out, _ = btmctl("datasets", "preview", "faq")
    assert "row 1, page 2 of storms/\\x1b[2Jfirst.pdf\n" in out


def test_rows_of_documents_are_named_by_number_where_they_are_computed_together(
    btmctl: Btmctl, server: SmallServer
) -> None:
    asked(server, {**FOUND, **TRAINING, "unit": "page"})
    _, out, _ = btmctl("datasets", "preview", "faq", "--tokens", "--model", "tiny")
    assert "134 longer than 512 tokens (--line 3, 5, 8, 13, 21, ...)" in out
    assert "    row " in out
    assert "    line " not in out


def test_too_many_rows_are_refused_with_how_many_there_can_be(btmctl: Btmctl) -> None:
    code, _, err = btmctl("datasets", "preview", "faq", "--rows", "101")
    assert code == 2
    assert "1 to 100 rows" in err


def test_tokens_need_a_model(btmctl: Btmctl) -> None:
    code, _, err = btmctl("datasets", "preview", "faq", "--tokens")
    assert code == 2
    assert "btmctl datasets preview faq --tokens --model M" in err


def test_json_is_the_document_as_it_came(btmctl: Btmctl, server: SmallServer) -> None:
    asked(server, FOUND)
    code, out, _ = btmctl("datasets", "preview", "faq", "--json")
    assert (code, json.loads(out)) == (0, FOUND)
