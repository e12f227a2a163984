"""Every kind that a person may meet has a name in words."""

import ast
from pathlib import Path

import btmd.reading
from btmd.data import languages
from btmd.privacy.finding import NAME, STRUCTURED
from btmd.privacy.limits import limits_of
from btmd.vocabulary import LANGUAGES, LAYOUTS, PERSONAL_DATA, personal_data


def layouts() -> set[str]:
    """The names that layouts are made with, as they stand in the code."""
    found = {"conversations", "messages", "question_answer", "instruction", "prompt_completion"}
    for file in Path(btmd.reading.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            is_made = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Layout"
            if is_made and node.args and isinstance(node.args[0], ast.Constant):
                found.add(str(node.args[0].value))
    return found


def test_what_is_found_in_files_has_a_name_in_words() -> None:
    assert set(PERSONAL_DATA) == {*STRUCTURED, NAME}
    assert set(LANGUAGES) == {*languages._SMALL_WORDS, *(language for language, _ in languages._LETTERS)}
    assert set(LAYOUTS) == layouts()


def test_rows_with_personal_data_are_told_in_words() -> None:
    kinds = [{"kind": "email", "rows": 1200}, {"kind": "customer", "rows": 1}]
    assert personal_data(kinds) == "e-mail addresses in 1,200 rows, customer in 1 row"


def test_limits_are_true_of_what_was_asked_for() -> None:
    usual = " ".join(limits_of(names_looked_for=False))
    assert "Names of people are not found" in usual
    listed = " ".join(limits_of(names_looked_for=False, names_given=True, regions=("DE",), kept=("key",)))
    assert "Names of people are found only where your own lists and columns have them" in listed
    assert "not found: no recogniser" not in listed
    assert "and of DE." in listed
    assert "passwords are found" not in listed
    assert "Left as they are, as was asked: keys and passwords." in listed
    assert "Names" not in " ".join(limits_of(names_looked_for=True))
