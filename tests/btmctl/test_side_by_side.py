"""Two answers in columns: nothing is lost, nothing is wider than the terminal."""

import io

import pytest

from btmctl.output import Output, columns
from btmctl.side_by_side import SideBySide


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def screen(written: str) -> list[str]:
    """What stands on an endless screen after our own control sequences."""
    lines = [""]
    for part in written.replace("\x1b[1m", "").replace("\x1b[0m", "").split("\x1b["):
        count, goes_up, _ = part.partition("A\r")
        if goes_up and count.isdigit():
            del lines[len(lines) - 1 - int(count) :]
            lines.append("")
            continue
        first, *more = part.removeprefix("J").split("\n")
        lines[-1] += first
        lines += more
    return lines[:-1]


@pytest.mark.parametrize("height", [6, 50])
def test_both_answers_end_up_whole(height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    terminal = Terminal()
    shown = SideBySide(Output(environment={}, stdout=terminal, stderr=io.StringIO()), height)
    left = [f"word{number} " for number in range(60)]
    for word in left:
        shown.add(0, word)
    for word in ("one\n", "two ", "蜂" * 50, " three\x1b[2J"):
        shown.add(1, word)
    shown.end()
    lines = screen(terminal.getvalue())
    assert lines[0].split() == ["before", "│", "after"]
    assert all(columns(line) <= 90 for line in lines)
    assert " ".join(line.split("│")[0].strip() for line in lines[1:]).split() == [word.strip() for word in left]
    right = [line.split("│")[1].strip() for line in lines[1:]]
    assert right[0] == "one"
    assert "".join(right[1:]).replace(" ", "") == "two" + "蜂" * 50 + "three\\x1b[2J"
