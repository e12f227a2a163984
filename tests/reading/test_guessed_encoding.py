"""Texts in codes of eight bits are read in the letters of their language, and it is told that they were guessed."""

from pathlib import Path

import pytest

from btmd.errors import DatasetEncoding, InvalidValue
from btmd.inspection.findings import Known, report_on
from btmd.reading.guessed_encoding import guess
from btmd.reading.told import encoding_named
from tests.data_files.cases import inspected
from tests.data_files.eight_bit_texts import TEXTS
from tests.reading.test_first_line import typed


@pytest.mark.parametrize("language", TEXTS)
def test_the_code_is_told_by_the_letters_of_the_language(language: str, tmp_path: Path) -> None:
    encoding, text = TEXTS[language]
    # Of Lithuanian no small words are known: a line alone may be read as any western language.
    for some in (text, *(text.splitlines()[1:] if language != "lt" else ())):
        (tmp_path / "a.txt").write_bytes(some.encode(encoding))
        found = guess(tmp_path / "a.txt")
        # A few lines hold no letter by which codes differ.
        assert found.encoding == encoding or some.encode(encoding).decode(found.encoding) == some
    facts, rows = inspected(tmp_path, "a.txt", text.encode(encoding))
    assert "\n".join(row["text"] for row in rows).split() == text.split()
    assert facts.guessed_rows == (0 if language == "de" else len(rows))


def test_iso_codes_of_the_same_languages_are_told_too(tmp_path: Path) -> None:
    for language in ("pl", "cs"):
        (tmp_path / "a.txt").write_bytes(TEXTS[language][1].encode("iso8859-2"))
        assert guess(tmp_path / "a.txt").encoding == "iso8859-2"


def test_a_guess_is_a_finding_with_the_option_that_mends_it(tmp_path: Path) -> None:
    content = "question;answer\nWhere?;Here.\nHol van?;A kikötőben áll, és erősen világít a tűz.\n".encode("cp1250")
    facts, _ = inspected(tmp_path, "a.csv", content)
    assert (facts.encoding, facts.guessed_rows, facts.guessed_lines) == ("windows-1250", 1, (3,))
    [finding] = [one for one in report_on(Known("it", facts)).findings if one.kind == "guessed_encoding"]
    assert (finding.severity, finding.count, finding.lines, finding.gain) == ("note", 1, (3,), 0)
    assert "windows-1250" in finding.text
    assert "btmctl datasets update it --encoding" in finding.meaning
    assert finding.command == "btmctl datasets preview it --line 3"


def test_an_encoding_that_was_named_is_taken(tmp_path: Path) -> None:
    russian = "question;answer\nГде это?;Это здесь, на берегу моря.\n".encode("koi8-r")
    with pytest.raises(DatasetEncoding) as refused:
        inspected(tmp_path, "a.csv", "вопрос;ответ\nГде это место?;Это место здесь, на берегу моря.\n".encode("cp1251"))
    assert refused.value.suggestions == ({"file:encoding": "windows-1251"},)
    facts, rows = inspected(tmp_path, "a.csv", russian, typed("--encoding koi8-r"))
    assert (facts.encoding, facts.guessed_rows) == ("koi8-r", 0)
    assert rows[0]["messages"][1]["content"] == "Это здесь, на берегу моря."
    for bare in ("utf-16-le", "utf-16-be"):
        content = '{"question": "Why?", "answer": "Because it is so."}\n'.encode(bare)
        with pytest.raises(DatasetEncoding) as refused:
            inspected(tmp_path, "a.jsonl", content)
        assert inspected(tmp_path, "a.jsonl", content, dict(refused.value.suggestions[0]))[0].rows_kept == 1
    with pytest.raises(DatasetEncoding, match="not all ascii"):
        inspected(tmp_path, "a.csv", russian, typed("--encoding ascii"))


@pytest.mark.parametrize("name", ["", "rot13", "zlib", "idna", "unicode_escape", "utf-7", "nonsense", "../x", "a\0b"])
def test_no_other_codec_can_be_named(name: str) -> None:
    with pytest.raises(InvalidValue, match="no encoding"):
        encoding_named(name)
    assert encoding_named("CP1250") == encoding_named("windows-1250") == "windows-1250"
