"""Layouts as people publish them are told without help; what may mean two things is asked about, with a suggestion."""

import json
from pathlib import Path
from typing import Any

import pytest

from btmd.data.rows import Row
from btmd.errors import InvalidValue, RatedAnswers, UnknownLayout
from tests.inspection.test_dataset import PAIR, SECRET, inspected, lines, said

USER, ANSWER = {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}
HUMAN, GPT = {"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Because."}

ONE_PAIR: dict[str, dict[str, Any]] = {
    "openai": {"messages": [USER, ANSWER]},
    "openai with parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": "Why?"}]}, ANSWER]},
    "responses api parts": {
        "messages": [
            {"role": "user", "content": [{"type": "input_text", "text": "Why?"}]},
            {"role": "assistant", "content": [{"type": "output_text", "text": "Because."}]},
        ]
    },
    "no_robots": {"prompt": "Why?", "prompt_id": "f1", "messages": [USER, ANSWER], "category": "Open QA"},
    "vertex": {
        "contents": [
            {"role": "user", "parts": [{"text": "Why?"}]},
            {"role": "model", "parts": [{"text": "Because."}]},
        ]
    },
    "bedrock": {
        "schemaVersion": "x",
        "messages": [
            {"role": "user", "content": [{"text": "Why?"}]},
            {"role": "assistant", "content": [{"text": "Because."}]},
        ],
    },
    "sharegpt": {"id": "x", "conversations": [HUMAN, GPT]},
    "sharegpt singular": {"conversation": [HUMAN, GPT], "model": "m"},
    "sharegpt chatgpt": {"items": [{"from": "user", "value": "Why?"}, {"from": "chatgpt", "value": "Because."}]},
    "speaker and text": {"dialogue": [{"speaker": "user", "text": "Why?"}, {"speaker": "bot", "text": "Because."}]},
    "moss": {"conversation_id": 3, "conversation": [{"human": "Why?", "assistant": "Because."}]},
    "xtuner": {"conversation": [{"input": "Why?", "output": "Because."}]},
    "ultrachat": {"id": "0", "data": ["Why?", "Because."]},
    "a list written into a table": {"messages": json.dumps([USER, ANSWER])},
    "alpaca": {"instruction": "Why?", "input": "", "output": "Because.", "text": "Below is an instruction ..."},
    "dolly": {"instruction": "Why?", "context": "", "response": "Because.", "category": "open_qa"},
    "code alpaca": {"instruction": "Why?", "input": "", "output": "Because.", "prompt": "Below is ..."},
    "orca": {"id": "niv.1", "system_prompt": "", "question": "Why?", "response": "Because."},
    "flan": {"inputs": "Why?", "targets": "Because.", "task": "qa"},
    "gsm8k": {"question": "Why?", "answer": "Because."},
    "metamath": {"type": "x", "query": "Why?", "original_question": "?", "response": "Because."},
    "math": {"problem": "Why?", "level": "5", "type": "Algebra", "solution": "Because."},
    "openmath": {"problem": "Why?", "solution": "Because.", "answer": "B."},
    "truthful": {"question": "Why?", "best_answer": "Because.", "correct_answers": "Because.; B."},
    "trl prompt and completion": {"prompt": [USER], "completion": [ANSWER]},
    "prompt and response": {"prompt": "Why?", "response": "Because.", "helpfulness": 4},
    "kaggle counselling": {"Context": "Why?", "Response": "Because."},
    "kaggle faq": {"Questions": "Why?", "Answers": "Because."},
    "squad": {"id": "1", "question": "Why?", "context": "", "answers": {"text": ["Because."], "answer_start": [0]}},
    "natural questions": {"question": "Why?", "answers": ["Because.", "B."]},
    "user and assistant": {"user": "Why?", "assistant": "Because."},
    "q and a": {"Q": "Why?", "A": "Because."},
    "german": {"Frage": "Why?", "Antwort": "Because.", "Thema": "x"},
    "german instruction": {"Anweisung": "Why?", "Eingabe": "", "Ausgabe": "Because."},
    "french": {"Question": "Why?", "Réponse": "Because."},
    "spanish": {"pregunta": "Why?", "respuesta": "Because."},
    "italian": {"domanda": "Why?", "risposta": "Because."},
    "chinese": {"问题": "Why?", "回答": "Because."},
    "guanaco": {"text": "### Human: Why?### Assistant: Because."},
    "oig": {"text": "<human>: Why?\n<bot>: Because.", "meta": "{}"},
    "chatml": {"text": "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\nBecause.<|im_end|>\n"},
    "llama 2": {"text": "<s>[INST] Why? [/INST] Because. </s>"},
    "zephyr": {"text": "<|user|>\nWhy?</s>\n<|assistant|>\nBecause.</s>"},
    "llama 3": {
        "text": "<|start_header_id|>user<|end_header_id|>\n\nWhy?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nBecause.<|eot_id|>"
    },
}


@pytest.mark.parametrize("case", ONE_PAIR)
def test_a_layout_in_use_is_told_without_help(case: str, tmp_path: Path) -> None:
    facts, [row] = inspected(tmp_path, lines(ONE_PAIR[case]))
    assert facts.row_kind == "conversation"
    assert [(role, content) for role, content in said(row) if role != "system"] == PAIR


BETTER = [("user", "Why?"), ("assistant", "Because.")]
PREFERENCES: dict[str, dict[str, Any]] = {
    "trl": {"prompt": "Why?", "chosen": "Because.", "rejected": "No."},
    "hh-rlhf": {
        "chosen": "\n\nHuman: Why?\n\nAssistant: Because.",
        "rejected": "\n\nHuman: Why?\n\nAssistant: No.",
    },
    "ultrafeedback": {
        **{"prompt": "Why?", "prompt_id": "1", "messages": [USER, ANSWER], "score_chosen": 8.0},
        **{"chosen": [USER, ANSWER], "rejected": [USER, {"role": "assistant", "content": "No."}]},
    },
    "orca dpo": {"system": "", "question": "Why?", "chosen": "Because.", "rejected": "No."},
    "argilla": {"instruction": "Why?", "chosen_response": "Because.", "rejected_response": "No."},
    "openai": {
        "input": {"messages": [USER]},
        "preferred_output": [ANSWER],
        "non_preferred_output": [{"role": "assistant", "content": "No."}],
    },
    "stack exchange": {"qid": 1, "question": "Why?", "response_j": "Because.", "response_k": "No."},
    "safe rlhf": {"prompt": "Why?", "response_0": "No.", "response_1": "Because.", "better_response_id": 1},
    "shp": {"history": "Why?", "human_ref_A": "Because.", "human_ref_B": "No.", "labels": 1},
    "arena": {
        "conversation_a": [USER, {"role": "assistant", "content": "No."}],
        "conversation_b": [USER, ANSWER],
        "winner": "model_b",
    },
}


@pytest.mark.parametrize("case", PREFERENCES)
def test_pairs_of_answers_are_told_in_their_spellings(case: str, tmp_path: Path) -> None:
    facts, [row] = inspected(tmp_path, lines(PREFERENCES[case]))
    assert facts.row_kind == "preference"
    assert said(row) == BETTER
    assert row["rejected"][-1] == {"role": "assistant", "content": "No."}


def test_a_comparison_without_a_winner_is_a_broken_row(tmp_path: Path) -> None:
    row = PREFERENCES["arena"]
    facts, rows = inspected(tmp_path, lines(row, {**row, "winner": "tie"}))
    assert len(rows) == 1
    assert [one.reason for one in facts.broken] == ["column 'winner' prefers neither answer"]


def test_calls_of_tools_are_part_of_what_the_assistant_says(tmp_path: Path) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    turns = [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "2"},
        ANSWER,
    ]
    _, [row] = inspected(tmp_path, lines({"messages": turns, "tools": [{"type": "function"}]}))
    assert said(row) == [
        PAIR[0],
        ("assistant", '<tool_call>\n{"name":"add","arguments":{"a":1}}\n</tool_call>'),
        ("tool", "2"),
        PAIR[1],
    ]
    picture = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}
    facts, _ = inspected(tmp_path, lines({"messages": turns}, {"messages": [picture, ANSWER]}))
    assert [row.reason for row in facts.broken] == ["a turn holds something besides text, a picture say"]


def test_earlier_turns_and_a_system_column_come_first(tmp_path: Path) -> None:
    row = {"instruction": "Why?", "input": "", "output": "Because.", "history": [["Hi.", "Hello."]], "system": "Short."}
    _, [kept] = inspected(tmp_path, lines(row))
    assert said(kept) == [("system", "Short."), ("user", "Hi."), ("assistant", "Hello."), *PAIR]
    _, [kept] = inspected(tmp_path, lines({"system": "Short.", "conversations": [HUMAN, GPT]}))
    assert said(kept) == [("system", "Short."), *PAIR]


def test_a_tree_of_messages_becomes_every_way_to_a_last_answer(tmp_path: Path) -> None:
    def message(own: str, parent: str | None, role: str, text: str) -> dict[str, Any]:
        return {"message_id": own, "parent_id": parent, "message_tree_id": "t", "role": role, "text": text, "rank": 0}

    facts, rows = inspected(
        tmp_path,
        lines(
            message("a", None, "prompter", "Why?"),
            message("b", "a", "assistant", "Because."),
            message("c", "a", "assistant", "No idea."),
            message("d", "b", "prompter", "Sure?"),
            message("e", "d", "assistant", "Yes."),
            message("f", "e", "prompter", "Thanks."),
        ),
    )
    assert facts.layout == "message_tree"
    assert [said(row) for row in rows] == [
        [PAIR[0], ("assistant", "No idea.")],
        [*PAIR, ("user", "Sure?"), ("assistant", "Yes.")],
    ]


PROSE = "This is a sentence somebody wrote about something, with {} in it."


def many(**columns: Any) -> list[dict[str, Any]]:
    """Thirty rows; a text with braces differs from row to row."""
    return [
        {key: value.replace("{}", str(number)) if isinstance(value, str) else value for key, value in columns.items()}
        for number in range(30)
    ]


ASKED_ABOUT: dict[str, tuple[list[dict[str, Any]], dict[str, str] | None]] = {
    "columns of any name": (many(lhs=PROSE, rhs=PROSE + " More."), {"prompt": "lhs", "completion": "rhs"}),
    "a translation": (many(en=PROSE, de=PROSE + " Mehr."), {"prompt": "en", "completion": "de"}),
    "a summary": (many(document=PROSE * 5, summary=PROSE), {"prompt": "document", "completion": "summary"}),
    "a classification": (many(text=PROSE, label="x{}"), {"prompt": "text", "completion": "label"}),
    "two answers": (many(question=PROSE + "?", answer=PROSE, response=PROSE + "{}"), None),
    "two questions": (many(instruction=PROSE, question=PROSE + "?", answer=PROSE), None),
    "title and body": (many(title="How {}?", body=PROSE * 3), {"prompt": "title", "completion": "body"}),
    "a single column": (many(notes=PROSE), {"text": "notes"}),
    "multiple choice": (
        [{"question": "Why?", "choices": ["a", "b"], "answer": 1}] * 3,
        {"prompt": "question", "completion": "answer"},
    ),
    "names as roles in a list": (
        [{"conversations": [{"from": "Ann", "value": "Why?"}, {"from": "Bob", "value": "So."}]}] * 3,
        {"conversation": "conversations", "role:@first": "user", "role:@others": "assistant"},
    ),
    "names as roles in rows": (
        [
            {"ticket_id": number // 2, "author": "Ann" if number % 2 else f"C{number}", "body": PROSE.format(number)}
            for number in range(40)
        ],
        {
            **{"conversation": "ticket_id", "role": "author", "content": "body"},
            **{"role:@first": "user", "role:@others": "assistant"},
        },
    ),
    "messages that nothing holds together": (
        [{"grp_no": number // 2, **(USER, ANSWER)[number % 2]} for number in range(40)],
        {"conversation": "grp_no", "role": "role", "content": "content"},
    ),
}


@pytest.mark.parametrize("case", ASKED_ABOUT)
def test_what_may_mean_two_things_is_asked_about(case: str, tmp_path: Path) -> None:
    rows, suggested = ASKED_ABOUT[case]
    with pytest.raises(UnknownLayout) as refusal:
        inspected(tmp_path, lines(*rows))
    assert "--map" in refusal.value.hint
    assert refusal.value.suggestions
    if suggested is not None:
        assert refusal.value.suggestions[0] == suggested
    said_in_words = refusal.value.detail + refusal.value.hint + str(refusal.value.suggestions)
    assert "Ann" not in said_in_words
    for suggestion in refusal.value.suggestions:
        facts, kept = inspected(tmp_path, lines(*rows), mapping=suggestion)
        assert kept, suggestion
        assert facts.columns_used


def test_answers_that_are_rated_one_by_one_are_refused(tmp_path: Path) -> None:
    rows = [{"prompt": SECRET, "completion": SECRET, "label": label} for label in (True, False)]
    with pytest.raises(RatedAnswers) as refusal:
        inspected(tmp_path, lines(*rows))
    assert SECRET not in refusal.value.detail


def test_columns_can_be_dropped_and_the_rest_is_told(tmp_path: Path) -> None:
    rows = many(question=PROSE + "?", answer=PROSE, response=PROSE)
    facts, _ = inspected(tmp_path, lines(*rows), mapping={"drop": "response"})
    assert facts.columns_used == ("question", "answer")
    facts, _ = inspected(
        tmp_path,
        lines(*many(text=PROSE, label="x", summary="y")),
        mapping={
            "drop:label": "label",
            "drop:summary": "summary",
        },
    )
    assert facts.columns_used == ("text",)


@pytest.mark.parametrize(
    "mapping",
    [
        {"conversation": "a", "role": "b"},
        {"role:agent": "boss", "conversation": "a"},
        {"role:@last": "user", "conversation": "a"},
        {"prompt:x": "a"},
        {"text": "a", "drop": "a"},
        {"chosen": "a"},
    ],
)
def test_mappings_that_cannot_be_are_refused(mapping: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(InvalidValue):
        inspected(tmp_path, lines({"a": "x", "b": "y"}), mapping=mapping)


def tickets(count: int) -> tuple[list[dict[str, Any]], list[list[tuple[str, str]]]]:
    """Messages of many tickets, none of them together, and the conversations they are."""
    conversations = []
    messages = []
    for number in range(count):
        turns = [
            ("assistant" if place % 2 else "user", f"m{place} of {number}") for place in range(2 + number % 4 // 2 * 2)
        ]
        conversations.append(turns)
        for place, (role, content) in enumerate(turns):
            messages.append(
                {
                    "Ticket ID": f"T-{number}",
                    "Sender": "Agent" if role == "assistant" else "Customer",
                    "Created at": f"2024-03-{1 + place:02} 1{place}:00:00",
                    "Message": content,
                }
            )
    messages.sort(key=lambda message: hash(message["Message"]) if message["Ticket ID"] != "T-0" else -(2**70))
    return messages, conversations


def spoken(rows: list[Row]) -> list[list[tuple[str, str]]]:
    return sorted(said(row) for row in rows)


def test_messages_of_a_ticket_system_become_conversations(tmp_path: Path) -> None:
    messages, conversations = tickets(300)
    facts, rows = inspected(tmp_path, lines(*messages))
    assert facts.layout == "grouped_messages"
    assert facts.columns_used == ("Ticket ID", "Sender", "Message", "Created at")
    assert spoken(rows) == sorted(conversations)
    assert (facts.rows_total, facts.rows_broken) == (300, 0)


def test_roles_by_name_and_by_who_begins(tmp_path: Path) -> None:
    messages = [
        {"case": 1, "who": "Eve", "no": 2, "said": "Because."},
        {"case": 1, "who": "Kim", "no": 1, "said": "Why?"},
        {"case": 1, "who": "Log", "no": 3, "said": "closed"},
        {"case": 2, "who": "Lee", "no": 10, "said": "Why?"},
        {"case": 2, "who": "Eve", "no": 11, "said": "Because."},
        {"case": 3, "who": "Lee", "no": "?", "said": "Why?"},
    ]
    mapping = {
        **{"conversation": "case", "role": "who", "content": "said", "order": "no"},
        **{"role:@first": "user", "role:@others": "assistant", "role:log": "drop"},
    }
    facts, rows = inspected(tmp_path, lines(*messages), mapping=mapping)
    assert [said(row) for row in rows] == [PAIR, PAIR]
    assert [row["line"] for row in rows] == [1, 4]
    assert [(row.line, row.reason) for row in facts.broken] == [
        (6, "column 'no' is neither a number nor a time as in the other rows; its conversation is left out")
    ]
    del mapping["role:@first"], mapping["role:@others"]
    facts, rows = inspected(
        tmp_path, lines(*messages[:3]), mapping={**mapping, "role:Eve": "assistant", "role:KIM": "user"}
    )
    assert [said(row) for row in rows] == [PAIR]


@pytest.mark.parametrize(
    "times",
    [
        ["9", "10", "11"],
        ["2024-01-02T09:00:00Z", "2024-01-02T11:00:00+01:00", "2024-01-02T10:30:00Z"],
        ["31.12.2023 23:59", "01.01.2024 00:00", "02.01.2024 08:00"],
        ["12/31/2023 11:59 PM", "1/1/2024 12:01 AM", "1/1/2024 1:00 PM"],
        ["Mon, 01 Jan 2024 10:00:00 +0000", "Tue, 02 Jan 2024 09:00:00 +0000", "Wed, 10 Jan 2024 09:00:00 +0000"],
        ["9:05", "10:00", "23:00"],
    ],
)
def test_numbers_and_times_put_messages_in_order(times: list[str], tmp_path: Path) -> None:
    turns = [(times[0], USER), (times[1], ANSWER), (times[2], {"role": "user", "content": "Oh."})]
    for shuffled in (turns, turns[::-1]):
        rows_in = [{"thread_id": 1, "timestamp": when, **turn} for when, turn in shuffled]
        facts, [row] = inspected(tmp_path, lines(*rows_in))
        assert facts.columns_used == ("thread_id", "role", "content", "timestamp")
        assert said(row) == [*PAIR, ("user", "Oh.")]


def test_messages_without_an_order_stay_as_they_stand(tmp_path: Path) -> None:
    facts, rows = inspected(
        tmp_path,
        lines(
            {"session": "x", **USER},
            {"session": "y", **USER},
            {"session": "x", **ANSWER},
            {"session": "y", "role": "assistant", "content": " "},
            {"session": "y", **ANSWER},
            {"session": "z", **USER},
            {"session": None, **USER},
        ),
    )
    assert [said(row) for row in rows] == [PAIR, PAIR]
    assert facts.empty_lines == (4,)
    assert [row.line for row in facts.broken] == [6, 7]
