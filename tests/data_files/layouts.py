"""Datasets in the layouts in which they are published and exported, each with the rows that have to come out of it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.data_files.programs import (
    docx,
    excel_csv_german,
    excel_csv_utf8_german,
    html_page,
    json_lines,
    json_list,
    libreoffice_csv,
    odt,
    pandas_csv,
    parquet,
    pdf,
)

Turns = Sequence[tuple[str, str]]
PAIR = (("user", "Why?"), ("assistant", "Because."))
LONGER = (*PAIR, ("user", "Sure?"), ("assistant", "Yes."))
WITH_SYSTEM = (("system", "Be short."), *PAIR)
WORSE = (("user", "Why?"), ("assistant", "No idea."))


@dataclass(frozen=True)
class Example:
    """A file, and the rows that are in it: turns, or a text."""

    title: str
    name: str
    content: bytes | Callable[[], bytes]
    rows: Sequence[Turns | str]
    rejected: Sequence[Turns] = ()
    layout: str = ""
    sides: Sequence[str] = ()


def turns(pairs: Turns, role: str = "role", content: str = "content", **names: str) -> list[dict[str, str]]:
    return [{role: names.get(speaker, speaker), content: said} for speaker, said in pairs]


def one(**row: Any) -> bytes:
    return json_lines([row])


SHARE_GPT = {"user": "human", "assistant": "gpt"}
THREE = [("Wo?", 'Hier; "da".'), ("Wann?", "Jetzt."), ("Wer?", "Müller\nund Söhne.")]
THREE_ROWS = [(("user", asked), ("assistant", answered)) for asked, answered in THREE]
STORM = "The lighthouse was built in the year of the storm."
ALPACA = {"instruction": "Why?", "input": "", "output": "Because."}

CHATS = (
    Example("OpenAI", "train.jsonl", one(messages=turns(WITH_SYSTEM)), [WITH_SYSTEM], layout="messages"),
    Example(
        "OpenAI with parts",
        "train.jsonl",
        one(messages=[{"role": who, "content": [{"type": "text", "text": said}]} for who, said in LONGER]),
        [LONGER],
    ),
    Example(
        "UltraChat",
        "train.parquet",
        lambda: parquet([{"prompt": "Why?", "prompt_id": "f0e3", "messages": turns(LONGER)}]),
        [LONGER],
        layout="messages",
    ),
    Example(
        "ShareGPT",
        "sg.json",
        json_list([{"id": "a1_0", "conversations": turns(LONGER, "from", "value", **SHARE_GPT)}]),
        [LONGER],
        layout="conversations",
    ),
    Example(
        "LLaMA-Factory ShareGPT",
        "data.json",
        json_list([{"conversations": turns(PAIR, "from", "value", **SHARE_GPT), "system": "Be short.", "tools": "[]"}]),
        [WITH_SYSTEM],
    ),
    Example(
        "Gemini",
        "tuning.jsonl",
        one(
            contents=[
                {"role": who, "parts": [{"text": said}]} for who, said in (("user", "Why?"), ("model", "Because."))
            ]
        ),
        [PAIR],
    ),
    Example(
        "Bedrock",
        "records.jsonl",
        one(
            system=[{"text": "Be short."}], messages=[{"role": who, "content": [{"text": said}]} for who, said in PAIR]
        ),
        [WITH_SYSTEM],
    ),
    Example(
        "Cohere",
        "chat.jsonl",
        one(
            messages=[
                {"role": "System", "content": "Be short."},
                {"role": "User", "content": "Why?"},
                {"role": "Chatbot", "content": "Because."},
            ]
        ),
        [WITH_SYSTEM],
    ),
    Example(
        "MOSS",
        "moss.jsonl",
        one(conversation=[{"human": "Why?", "assistant": "Because."}, {"human": "Sure?", "assistant": "Yes."}]),
        [LONGER],
    ),
    Example(
        "UltraChat as it was first published",
        "ultra.jsonl",
        one(id="0", data=["Why?", "Because.", "Sure?", "Yes."]),
        [LONGER],
    ),
    Example(
        "a table with turns in a column",
        "export.csv",
        libreoffice_csv(["id", "messages"], [["1", json.dumps(turns(PAIR))], ["2", json.dumps(turns(LONGER))]]),
        [PAIR, LONGER],
    ),
)

PAIRS = (
    Example("Alpaca", "alpaca.json", json_list([ALPACA]), [PAIR], layout="instruction"),
    Example(
        "LLaMA-Factory Alpaca",
        "alpaca.json",
        json_list(
            [{**ALPACA, "instruction": "Sure?", "output": "Yes.", "system": "", "history": [["Why?", "Because."]]}]
        ),
        [LONGER],
    ),
    Example(
        "Dolly",
        "dolly.jsonl",
        one(instruction="Why?", context=STORM, response="Because.", category="closed_qa"),
        [(("user", f"Why?\n\n{STORM}"), ("assistant", "Because."))],
    ),
    Example(
        "OpenOrca",
        "orca.parquet",
        lambda: parquet([{"id": "niv.1", "system_prompt": "Be short.", "question": "Why?", "response": "Because."}]),
        [WITH_SYSTEM],
    ),
    Example(
        "OpenAI's first form",
        "train.jsonl",
        one(prompt="Why?", completion=" Because."),
        [PAIR],
        layout="prompt_completion",
    ),
    Example("GSM8K", "train.jsonl", one(question="Why?", answer="Because."), [PAIR], layout="question_answer"),
    Example(
        "SQuAD",
        "squad.parquet",
        lambda: parquet(
            [
                {
                    "id": "5",
                    "title": "Storm",
                    "context": STORM,
                    "question": "Why?",
                    "answers": {"text": ["Because."], "answer_start": [3]},
                }
            ]
        ),
        [(("user", f"Why?\n\n{STORM}"), ("assistant", "Because."))],
    ),
    Example("FLAN", "flan.jsonl", one(inputs="Why?", targets="Because.", task="why"), [PAIR]),
    Example("Firefly", "firefly.jsonl", one(kind="Q", input="Why?", target="Because."), [PAIR]),
    Example("a German table of Excel", "Fragen.csv", excel_csv_german(["Frage", "Antwort"], THREE), THREE_ROWS),
    Example(
        "a German table of Excel with numbers",
        "Fragen.csv",
        excel_csv_utf8_german(["Nr.", "Frage", "Antwort"], [[str(n), *row] for n, row in enumerate(THREE)]),
        THREE_ROWS,
    ),
    Example("a French table of LibreOffice", "faq.csv", libreoffice_csv(["Question", "Réponse"], THREE), THREE_ROWS),
    Example("pandas", "frame.csv", pandas_csv(["question", "answer"], THREE), THREE_ROWS),
    Example(
        "datasets with a split column",
        "all.jsonl",
        json_lines({"question": f"{n}?", "answer": "So.", "split": "test" if n == 2 else "train"} for n in range(3)),
        [(("user", f"{n}?"), ("assistant", "So.")) for n in range(3)],
        sides=["train", "train", "held_out"],
    ),
)

PREFERENCES = (
    Example(
        "a prompt with two answers",
        "dpo.jsonl",
        one(prompt="Why?", chosen="Because.", rejected="No idea."),
        [PAIR],
        [WORSE],
        layout="preference",
    ),
    Example(
        "UltraFeedback",
        "uf.parquet",
        lambda: parquet(
            [
                {
                    "prompt": "Why?",
                    "prompt_id": "a",
                    "chosen": turns(PAIR),
                    "rejected": turns(WORSE),
                    "score_chosen": 8.0,
                    "score_rejected": 3.0,
                }
            ]
        ),
        [PAIR],
        [WORSE],
        layout="preference",
    ),
    Example(
        "HH-RLHF",
        "hh.jsonl",
        one(chosen="\n\nHuman: Why?\n\nAssistant: Because.", rejected="\n\nHuman: Why?\n\nAssistant: No idea."),
        [PAIR],
        [WORSE],
    ),
    Example(
        "Orca pairs",
        "pairs.json",
        json_list([{"system": "Be short.", "question": "Why?", "chosen": "Because.", "rejected": "No idea."}]),
        [WITH_SYSTEM],
        [(("system", "Be short."), *WORSE)],
    ),
    Example(
        "LLaMA-Factory pairs",
        "dpo.json",
        json_list(
            [
                {
                    "conversations": [{"from": "human", "value": "Why?"}],
                    "chosen": {"from": "gpt", "value": "Because."},
                    "rejected": {"from": "gpt", "value": "No idea."},
                }
            ]
        ),
        [PAIR],
        [WORSE],
    ),
)

TEXTS = (
    Example(
        "C4",
        "c4.jsonl",
        one(text=STORM, timestamp="2019-04-25T12:57:54Z", url="https://example.org/a"),
        [STORM],
        layout="text",
    ),
    Example(
        "Wikipedia",
        "wiki.parquet",
        lambda: parquet([{"id": "12", "url": "https://example.org", "title": "Storm", "text": STORM}]),
        [STORM],
    ),
    Example(
        "a Word document",
        "handout.docx",
        lambda: docx(["Storms", STORM], headings=["Storms"]),
        [f"Storms\n\n{STORM}"],
    ),
    Example(
        "a Writer document",
        "handout.odt",
        lambda: odt(["Storms", STORM], headings=["Storms"]),
        [f"Storms\n\n{STORM}"],
    ),
    Example("a PDF", "handout.pdf", lambda: pdf([STORM]), [STORM]),
    Example("a saved page", "page.html", lambda: html_page("Storms", [STORM]), [f"Storms\n\n{STORM}"]),
)


def _messages(*said: tuple[str, str, str, str]) -> list[dict[str, str]]:
    return [dict(zip(("ticket_id", "author_role", "body", "created_at"), one, strict=True)) for one in said]


EXPORT = _messages(
    ("T-1", "end-user", "Why?", "2026-03-01T10:00:00Z"),
    ("T-2", "end-user", "Why?", "2026-03-01T10:05:00Z"),
    ("T-1", "agent", "Because.", "2026-03-01T10:07:00Z"),
    ("T-2", "agent", "Because.", "2026-03-01T11:00:00Z"),
    ("T-1", "end-user", "Sure?", "2026-03-02T09:00:00Z"),
    ("T-1", "agent", "Yes.", "2026-03-02T09:01:00Z"),
)
TREE = [
    {"message_id": "m3", "parent_id": "m2", "message_tree_id": "m1", "role": "prompter", "text": "Sure?"},
    {"message_id": "m1", "parent_id": None, "message_tree_id": "m1", "role": "prompter", "text": "Why?"},
    {"message_id": "m2", "parent_id": "m1", "message_tree_id": "m1", "role": "assistant", "text": "Because."},
    {"message_id": "m4", "parent_id": "m3", "message_tree_id": "m1", "role": "assistant", "text": "Yes."},
]

ONE_MESSAGE_A_ROW = (
    Example("a help desk's tickets", "tickets.jsonl", json_lines(EXPORT), [LONGER, PAIR], layout="grouped_messages"),
    Example(
        "a help desk's tickets in a German table",
        "tickets.csv",
        excel_csv_german(
            ["Ticket-ID", "Rolle", "Nachricht", "Datum"],
            [
                ["7", "Agent", "Weil.", "02.03.2026 09:10"],
                ["7", "Kunde", "Warum?", "01.03.2026 18:00"],
                ["8", "Kunde", "Wo?", "01.03.2026 19:00"],
                ["8", "Agent", "Hier.", "01.04.2026 07:00"],
            ],
        ),
        [(("user", "Warum?"), ("assistant", "Weil.")), (("user", "Wo?"), ("assistant", "Hier."))],
    ),
    Example("OpenAssistant", "oasst.jsonl", json_lines(TREE), [LONGER]),
)

EXAMPLES = CHATS + PAIRS + PREFERENCES + TEXTS + ONE_MESSAGE_A_ROW
