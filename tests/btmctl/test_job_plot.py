"""The course of a training in the terminal and as pictures."""

import struct
import xml.etree.ElementTree as ET
import zlib
from pathlib import Path

import pytest

from btmctl.commands.job_plot import SHOWN
from btmctl.plots.scales import PANELS, label, ticks
from btmctl.plots.terminal import Canvas
from tests.btmctl.conftest import Btmctl
from tests.btmctl.small_server import SmallServer

STEPS = list(range(1, 201))
SVG = "{http://www.w3.org/2000/svg}"


def _curve(
    key: str, title: str, mean: list[float], *, unit: str = "", steps: list[int] | None = None
) -> dict[str, object]:
    spread = 0.0 if key in ("held_out", "learning_rate") else 0.1
    return {
        "key": key,
        "title": title,
        "unit": unit,
        "step": steps or STEPS,
        "low": [value * (1 - spread) for value in mean],
        "high": [value * (1 + spread) for value in mean],
        "mean": mean,
        "values": 10 * len(mean),
        "said": f"The {title} went on.",
    }


CURVES = {
    "last_step": 200,
    "total_steps": 400,
    "curves": [
        _curve("loss", "training loss", [3 - 0.01 * step for step in STEPS]),
        _curve("held_out", "held-out loss", [3.0, 2.0, 1.2], steps=[0, 100, 200]),
        _curve("learning_rate", "learning rate", [1e-3] * 200),
        _curve("tokens_per_s", "speed", [300.0] * 200, unit="tokens/s"),
        _curve("memory_bytes", "memory", [1.5 * 2**30] * 200, unit="bytes"),
    ],
    "resumed_at": [120],
    "thinned": True,
}
JOB = {
    "job_id": "abcdefghij",
    "name": "<first> & (last)",
    "model_id": "tiny",
    "dataset_id": "facts",
    "preset": "quick_test",
    "state": "training",
}


@pytest.fixture
def plotted(server: SmallServer) -> SmallServer:
    server.answers("GET", "/jobs/last", JOB)
    server.answers("GET", "/jobs/abcdefghij/curves", CURVES)
    return server


def test_a_plot_fits_the_terminal_without_colour_and_says_how_it_went(plotted: SmallServer, btmctl: Btmctl) -> None:
    code, out, _ = btmctl("jobs", "plot", "last")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert "\x1b" not in out
    assert "training loss  (o held-out loss)" in out
    assert "The held-out loss went on." in out
    assert "step 200" in out
    assert "^ resumed" in out
    assert sum(any("\u2801" <= letter <= "\u28ff" for letter in line) for line in out.splitlines()) >= 12
    # As many points as there are dots, so that each column tells the lowest and the highest value of its steps.
    assert any("points=140" in path for _, path in plotted.seen)


def test_letters_that_cannot_be_written_are_not(
    plotted: SmallServer, btmctl: Btmctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "linux")
    _, out, _ = btmctl("jobs", "plot", "last", "--show", "loss,speed")
    assert out.isascii()
    assert "learning rate" not in out
    assert sum(line.count(":") for line in out.splitlines()) > 20


def test_an_svg_is_whole_and_tells_what_it_shows(plotted: SmallServer, btmctl: Btmctl, tmp_path: Path) -> None:
    path = tmp_path / "course.svg"
    code, out, _ = btmctl("jobs", "plot", "last", "--out", str(path))
    assert (code, out.strip()) == (0, str(path))
    root = ET.fromstring(path.read_text())
    assert root.find(f"{SVG}title").text == "Training abcdefghij <first> & (last): tiny on facts"  # type: ignore[union-attr]
    assert "The training loss went on." in root.find(f"{SVG}desc").text  # type: ignore[union-attr,operator]
    texts = [one.text for one in root.iter(f"{SVG}text")]
    assert {"training loss", "held-out loss", "speed (tokens/s)", "1.5 GB", "resumed"} <= set(texts)
    assert len(list(root.iter(f"{SVG}polygon"))) == 3
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for line in root.iter(f"{SVG}polyline"):
        for point in line.attrib["points"].split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= width
            assert 0 <= y <= height
    assert [one.name for one in tmp_path.glob("*.part")] == []


def test_a_png_shows_the_same(plotted: SmallServer, btmctl: Btmctl, tmp_path: Path) -> None:
    path = tmp_path / "course.png"
    assert btmctl("jobs", "plot", "last", "--show", "loss", "--out", str(path))[0] == 0
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", content[16:24])
    assert (width, height) == (1920, 2 * (64 + 68 + 170 + 44))
    data_at = content.index(b"IDAT")
    size = struct.unpack(">I", content[data_at - 4 : data_at])[0]
    rows = zlib.decompress(content[data_at + 4 : data_at + 4 + size])
    assert len(rows) == height * (1 + 3 * width)
    lines = (rows[at + 1 : at + 1 + 3 * width] for at in range(0, len(rows), 1 + 3 * width))
    colours = {line[at : at + 3].hex() for line in lines for at in range(0, len(line), 3)}
    assert {"ffffff", "1f5fa8", "c2410c", "c9dcf0"} <= colours


def test_every_panel_can_be_asked_for() -> None:
    assert tuple(PANELS) == SHOWN


def test_what_cannot_be_plotted_is_said(plotted: SmallServer, btmctl: Btmctl, tmp_path: Path) -> None:
    assert btmctl("jobs", "plot", "last", "--show", "loss,colour")[0] == 2
    assert btmctl("jobs", "plot", "last", "--out", str(tmp_path / "course.gif"))[0] == 2
    assert btmctl("jobs", "plot", "last", "--out", str(tmp_path / "nowhere" / "course.svg"))[0] == 1
    plotted.answers("GET", "/jobs/abcdefghij/curves", {**CURVES, "curves": []})
    code, _, err = btmctl("jobs", "plot", "last")
    assert (code, "no step yet" in err) == (1, True)


def test_marks_of_an_axis_are_round_and_inside() -> None:
    assert ticks(0, 3.2, 4) == [0, 1, 2, 3]
    assert ticks(0.00012, 0.00031, 4) == pytest.approx([0.00015, 0.0002, 0.00025, 0.0003])
    assert [label(value, "bytes") for value in (0, 512 * 2**20, 1.5 * 2**30)] == ["0", "512 MB", "1.5 GB"]
    assert [label(value, "") for value in (3e-4, 0.0, 12345.0, 2.5)] == ["3e-4", "0", "12,345", "2.5"]


def test_a_canvas_draws_what_it_is_told() -> None:
    canvas = Canvas(2, 1, braille=True)
    canvas.bar(0, 0, 3)
    canvas.mark(3, 0, "o")
    assert canvas.row(0) == [("⡇", False), ("o", True)]
