"""JSON, JSON Lines and tables that are broken in one place, or look so."""

import json

from btmd.errors import (
    DatasetBinary,
    DatasetDamaged,
    DatasetEmpty,
    DatasetEncoding,
    DatasetTruncated,
    UnknownLayout,
)
from tests.data_files.cases import Case, Kept, Refused, asked, table
from tests.data_files.programs import (
    BOM,
    excel_csv_german,
    excel_csv_utf8_german,
    excel_unicode_text,
    jq_pretty,
    json_lines,
    json_list,
    libreoffice_csv,
    pandas_csv,
)

HEADER = ("question", "answer")
GOOD = json_lines(asked())
LINES = GOOD.splitlines(keepends=True)


def with_line(number: int, line: bytes) -> bytes:
    """The good rows with another one in front of the row that had this number."""
    return b"".join([*LINES[: number - 1], line, *LINES[number - 1 :]])


def row(**changes: object) -> bytes:
    return json.dumps({**asked()[0], **changes}).encode() + b"\n"


def chat(*turns: tuple[object, object]) -> bytes:
    return json.dumps({"messages": [{"role": role, "content": content} for role, content in turns]}).encode() + b"\n"


CHAT = chat(("user", "Why?"), ("assistant", "Because."))

JSON_LINES = (
    Case(
        "the last row is cut off",
        "rows.jsonl",
        GOOD[:-20],
        Kept(2, broken={3: "the file ends inside the row"}),
    ),
    Case(
        "Python's own form instead of JSON",
        "rows.jsonl",
        "".join(f"{one}\n" for one in asked()).encode(),
        Refused(DatasetEmpty, "not valid JSON"),
    ),
    Case(
        "a comma behind every row",
        "rows.jsonl",
        GOOD.replace(b"}\n", b"},\n"),
        Refused(DatasetEmpty, "not valid JSON"),
    ),
    Case(
        "NaN for an answer", "rows.jsonl", with_line(2, row(answer=float("nan"))), Kept(3, broken={2: "not valid JSON"})
    ),
    Case(
        "bytes that are no characters in one row",
        "rows.jsonl",
        with_line(2, b'{"question": "Caf\xe9?", "answer": "caf\xe9"}\n'),
        Kept(3, broken={2: ""}),
    ),
    Case(
        "UTF-16 without its mark", "rows.jsonl", GOOD.decode().encode("utf-16-le"), Refused(DatasetEncoding, "UTF-16")
    ),
    Case(
        "UTF-16 cut in the middle of a character",
        "rows.jsonl",
        GOOD.decode().encode("utf-16")[:-1],
        Refused(DatasetEncoding, "UTF-16"),
    ),
    Case(
        "Greek letters of an old Windows",
        "rows.jsonl",
        json_lines(
            {"question": f"Πού είναι ο φάρος {n};", "answer": "Στον πύργο, δίπλα στη θάλασσα."} for n in range(9)
        )
        .decode()
        .encode("cp1253"),
        Refused(DatasetEncoding, "iconv"),
    ),
    Case(
        "lists instead of objects",
        "rows.jsonl",
        b"".join(json.dumps(one).encode() + b"\n" for one in table()),
        Refused(DatasetEmpty, "not an object with named fields"),
    ),
    Case(
        "one row is a list", "rows.jsonl", with_line(2, b'["Why?", "Because."]\n'), Kept(3, broken={2: "not an object"})
    ),
    Case(
        "one row has its answer under a misspelt name",
        "rows.jsonl",
        with_line(2, b'{"question": "Why?", "anwser": "So."}\n'),
        Kept(3, broken={2: "no column 'answer'"}),
    ),
    Case("an answer is null", "rows.jsonl", with_line(3, row(answer=None)), Kept(3, empty=(3,))),
    Case("an answer is only white space", "rows.jsonl", with_line(1, row(answer=" \u00a0\t\n")), Kept(3, empty=(1,))),
    Case(
        "an answer is an object", "rows.jsonl", with_line(2, row(answer={"label": 3})), Kept(3, broken={2: "not text"})
    ),
    Case(
        "a row nested without end",
        "rows.jsonl",
        with_line(2, b'{"question": ' + b"[" * 100_000 + b"\n"),
        Kept(3, broken={2: "nested too deeply"}),
    ),
    Case(
        "two objects in one line",
        "rows.jsonl",
        with_line(2, LINES[0].rstrip() + LINES[1]),
        Kept(3, broken={2: "not valid JSON"}),
    ),
    Case(
        "half a pair of surrogates",
        "rows.jsonl",
        with_line(2, row(answer="\ud83d")),
        Kept(3, broken={2: "not valid JSON"}),
    ),
    Case(
        "marks of a merge that was not finished",
        "rows.jsonl",
        with_line(2, b"<<<<<<< HEAD\n" + LINES[0] + b"=======\n" + LINES[1] + b">>>>>>> branch\n"),
        Kept(5, broken={2: "not valid JSON", 4: "not valid JSON", 6: "not valid JSON"}),
    ),
    Case(
        "an error page instead of the file",
        "rows.jsonl",
        b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n",
        Refused(DatasetBinary, "web page"),
    ),
    Case(
        "a pointer of Git LFS instead of the file",
        "rows.jsonl",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1234567\n",
        Refused(DatasetBinary, "git lfs pull"),
    ),
    Case("nothing at all", "rows.jsonl", b"", Refused(DatasetEmpty, "0 bytes")),
    Case("nothing but line ends", "rows.jsonl", b"\r\n \t\r\n", Refused(DatasetEmpty, "white space")),
    Case("nothing but a byte order mark", "rows.jsonl", BOM, Refused(DatasetEmpty, "")),
    Case(
        "no row has an answer",
        "rows.jsonl",
        b"".join(row(answer="") for _ in range(4)),
        Refused(DatasetEmpty, "None of the 4 rows"),
    ),
    Case("a byte order mark", "rows.jsonl", BOM + GOOD, Kept(3, lines=(1, 2, 3)), looks_broken=True),
    Case(
        "UTF-16 with its mark",
        "rows.jsonl",
        GOOD.decode().encode("utf-16"),
        Kept(3, facts={"encoding": "utf-16"}),
        looks_broken=True,
    ),
    Case(
        "Windows-1252",
        "rows.jsonl",
        GOOD.decode().encode("cp1252"),
        Kept(3, facts={"encoding": "windows-1252"}),
        looks_broken=True,
    ),
    Case(
        "blank lines between the rows",
        "rows.jsonl",
        b"\n" + b"\n\n".join(line.rstrip() for line in LINES) + b"\n\n",
        Kept(3, lines=(2, 4, 6)),
        looks_broken=True,
    ),
    Case("no line end behind the last row", "rows.jsonl", GOOD.rstrip(), Kept(3), looks_broken=True),
    Case(
        "line ends of Windows", "rows.jsonl", GOOD.replace(b"\n", b"\r\n"), Kept(3, lines=(1, 2, 3)), looks_broken=True
    ),
    Case("every letter escaped", "rows.jsonl", json_lines(asked(), ascii_only=True), Kept(3), looks_broken=True),
    Case(
        "rows called .txt by the mail program",
        "rows.jsonl.txt",
        GOOD,
        Kept(3, facts={"layout": "question_answer"}),
        looks_broken=True,
    ),
    Case("rows without an ending", "rows", GOOD, Kept(3), looks_broken=True),
    Case("a row that repeats", "rows.jsonl", with_line(3, LINES[0]), Kept(4, facts={"duplicates": 1})),
    Case(
        "letters that somebody could not read",
        "rows.jsonl",
        with_line(2, row(answer="Gr\ufffd\ufffde")),
        Kept(4, facts={"damaged_characters": 1}),
    ),
)

CONVERSATIONS = (
    Case(
        "a turn of nobody that is known",
        "chat.jsonl",
        CHAT * 3 + chat(("user", "Why?"), ("narrator", "So.")),
        Kept(3, broken={4: "unknown role"}),
    ),
    Case(
        "nobody answers",
        "chat.jsonl",
        CHAT * 2 + chat(("user", "Why?"), ("user", "Hello?")),
        Kept(2, broken={3: "no answer"}),
    ),
    Case("no turns", "chat.jsonl", CHAT + chat() + CHAT, Kept(2, empty=(2,))),
    Case(
        "a turn that is a text",
        "chat.jsonl",
        CHAT * 3 + b'{"messages": ["Why?", "Because."]}\n',
        Kept(3, broken={4: "not an object"}),
    ),
    Case(
        "a picture in a turn",
        "chat.jsonl",
        CHAT * 2 + chat(("user", [{"type": "image_url", "image_url": {"url": "a.png"}}]), ("assistant", "A cat.")),
        Kept(2, broken={3: "besides text"}),
    ),
    Case(
        "two answers that are the same",
        "pairs.jsonl",
        json_lines(
            [
                {"prompt": "Why?", "chosen": "So.", "rejected": "No."},
                {"prompt": "Why?", "chosen": "So.", "rejected": " So. "},
            ]
        ),
        Kept(1, broken={2: "the same"}),
    ),
)

JSON = (
    Case("a list that is cut off", "rows.json", json_list(asked())[:-30], Refused(DatasetTruncated, "cut off")),
    Case(
        "a list without its closing bracket", "rows.json", json_list(asked())[:-2], Refused(DatasetTruncated, "cut off")
    ),
    Case(
        "a comma is missing",
        "rows.json",
        json_list(asked(60)).replace(b"},\n", b"}\n", 1),
        Refused(DatasetDamaged, "line 6"),
    ),
    Case("a comma too many", "rows.json", json_list(asked(60))[:-2] + b",\n]", Refused(DatasetDamaged, "")),
    Case("something behind the list", "rows.json", json_list(asked()) + b"\n[1]", Refused(DatasetDamaged, "")),
    Case(
        "a comment in the list",
        "rows.json",
        json_list(asked(60)).replace(b"[\n", b"[\n// mine\n", 1),
        Refused(DatasetDamaged, "line 2"),
    ),
    Case("an empty list", "rows.json", b"[]", Refused(DatasetEmpty, "no rows")),
    Case("a list of texts", "rows.json", json.dumps(["Why?", "Because."]).encode(), Refused(DatasetEmpty, "")),
    Case("a text among the rows", "rows.json", json_list([*asked(), "the end"]), Kept(3, broken={14: "not an object"})),
    Case("an object that never ends", "rows.json", jq_pretty(asked(1))[:-8], Refused(DatasetTruncated, "")),
    Case(
        "a configuration file", "config.json", jq_pretty([{"model": "tiny", "layers": 2}]), Refused(UnknownLayout, "")
    ),
    Case(
        "indented objects one after another, as jq writes them",
        "rows.json",
        jq_pretty(asked()),
        Kept(3),
        looks_broken=True,
    ),
    Case("one row, indented", "rows.json", json_list(asked(1)), Kept(1, lines=(2,)), looks_broken=True),
)

TABLES = (
    Case(
        "a comma that should have been in quotes",
        "rows.csv",
        b"question,answer\nWhy?,So.\nWhere?,Here, or there.\nWho?,Me.\n",
        Kept(2, broken={3: "3 columns instead of 2"}),
    ),
    Case(
        "a column is missing in one row",
        "rows.csv",
        b"question,answer,id\nWhy?,So.,1\nWhere?\nWho?,Me.,3\n",
        Kept(2, broken={3: "1 columns instead of 3"}),
    ),
    Case(
        "a quote is never closed",
        "rows.csv",
        b'question,answer\nWhy?,So.\nWhere?,"Here.\nWho?,Me.\nWhen?,Now.\n',
        Kept(1, broken={3: "never closed"}),
    ),
    Case(
        "text behind a closed quote",
        "rows.csv",
        b'question,answer\nWhy?,So.\nWhere?,"Here" he said\nWho?,Me.\n',
        Kept(2, broken={3: "quotes"}),
    ),
    Case(
        "two columns of one name",
        "rows.csv",
        b"question,answer,answer\nWhy?,So.,No.\n",
        Refused(UnknownLayout, "same name"),
    ),
    Case("names of columns and nothing below", "rows.csv", b"question,answer\r\n", Refused(DatasetEmpty, "no rows")),
    Case(
        "rows of nothing at the end, as Excel leaves them",
        "rows.csv",
        excel_csv_german(HEADER, [*table(), ["", ""], ["", ""]]),
        Kept(3, empty=(5, 6), facts={"separator": ";", "encoding": "windows-1252"}),
    ),
    Case(
        "Excel in German",
        "rows.csv",
        excel_csv_german(HEADER, table(20)),
        Kept(20, facts={"separator": ";", "encoding": "windows-1252"}),
        looks_broken=True,
    ),
    Case(
        "Excel in German with one kind of umlaut",
        "tickets.csv",
        excel_csv_german(HEADER, [[f"Geht der Drucker {n} nicht?", f"Bitte das Kabel {n} prüfen."] for n in range(20)]),
        Kept(20, facts={"encoding": "windows-1252"}),
        looks_broken=True,
    ),
    Case(
        "a German note of two lines in Windows-1252",
        "note.txt",
        "Für die größte Übung.\r\n\r\nZweiter Absatz — ’so’.\r\n".encode("cp1252"),
        Kept(1, facts={"encoding": "windows-1252"}),
        looks_broken=True,
    ),
    Case(
        "Polish letters of Windows, which look western",
        "rows.csv",
        "question;answer\r\nDlaczego źle?;Bo tak się stało, żółw.\r\n".encode("cp1250"),
        Kept(1, facts={"encoding": "windows-1250", "guessed_rows": 1, "guessed_lines": (2,)}),
    ),
    Case(
        "volumes and areas in Windows-1252",
        "rows.csv",
        "question;answer\r\nWie groß?;Etwa 3 m³, oder 5 m² ¼ hoch.\r\nWo?;In 7 m³.\r\n".encode("cp1252"),
        Kept(2, facts={"encoding": "windows-1252"}),
        looks_broken=True,
    ),
    Case(
        "Excel in German, UTF-8",
        "rows.csv",
        excel_csv_utf8_german(HEADER, table(20)),
        Kept(20, facts={"columns": HEADER}),
        looks_broken=True,
    ),
    Case(
        "Excel's Unicode text",
        "rows.txt",
        excel_unicode_text(HEADER, table(20)),
        Kept(20, facts={"separator": "\t"}),
        looks_broken=True,
    ),
    Case(
        "Excel's line that names the separator",
        "rows.csv",
        b"sep=;\r\n" + excel_csv_german(HEADER, table()),
        Kept(3, facts={"columns": HEADER}, lines=(3, 4, 5)),
        looks_broken=True,
    ),
    Case(
        "empty columns that Excel left on the right",
        "rows.csv",
        b"question;answer;;\r\nWhy?;So.;;\r\nWho?;Me.;;\r\n",
        Kept(2),
        looks_broken=True,
    ),
    Case(
        "LibreOffice with everything in quotes",
        "rows.csv",
        libreoffice_csv(HEADER, table(20)),
        Kept(20),
        looks_broken=True,
    ),
    Case(
        "pandas with its index",
        "rows.csv",
        pandas_csv(HEADER, table()),
        Kept(3, facts={"layout": "question_answer"}),
        looks_broken=True,
    ),
    Case(
        "line ends and quotes in quotes",
        "rows.csv",
        libreoffice_csv(HEADER, [['Say "hi"\nthen go?', "a\r\nb"], ["Who?", 'Me, "I"']]),
        Kept(2, lines=(2, 5)),
        looks_broken=True,
    ),
    Case(
        "line ends of old Macintoshes", "rows.csv", b"question,answer\rWhy?,So.\rWho?,Me.\r", Kept(2), looks_broken=True
    ),
)

CASES = JSON_LINES + CONVERSATIONS + JSON + TABLES
