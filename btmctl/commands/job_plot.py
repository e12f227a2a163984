"""btmctl jobs plot: the course of a training, in the terminal or as a picture."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from btmctl.client import WORK_S, Document
from btmctl.errors import DONE, FAILED, UsageError
from btmctl.output import Output
from btmctl.parser import Noun
from btmctl.session import Session

if TYPE_CHECKING:
    from btmctl.plots.scales import Panel

SHOWN = ("loss", "rate", "speed", "memory", "gradient")
"""What can be plotted, by the names in plots.scales, which is imported only to plot."""
USUAL = SHOWN[:4]

PICTURE_POINTS = 800
"""About one for each pixel across."""


def add_verbs(noun: Noun) -> None:
    plot = noun.verb(
        "plot",
        run,
        "Plot the losses, the learning rate, the speed and the memory of a training, from the log alone.",
        ["btmctl jobs plot last", "btmctl jobs plot last --show loss", "btmctl jobs plot last --out course.svg"],
    )
    plot.add_argument("job", metavar="J", help="id, beginning of an id, name, or last")
    plot.add_argument("--out", metavar="FILE", help="write a picture instead: a name that ends in .svg or .png")
    plot.add_argument("--show", metavar="LIST", help=f"of {', '.join(SHOWN)} (default: {','.join(USUAL)})")


def run(arguments: argparse.Namespace, session: Session) -> int:
    output, wanted = session.output, _wanted(arguments.show)
    kind = _kind(arguments.out) if arguments.out else ""
    from btmctl.plots import terminal
    from btmctl.plots.scales import panels

    width = terminal.width_of(output)
    points = PICTURE_POINTS if kind else terminal.points_wanted(width)
    job = session.client.get(f"/jobs/{arguments.job}")
    # A training of weeks has millions of reports to read, the first time.
    found = session.client.get(f"/jobs/{job['job_id']}/curves", timeout_s=WORK_S, points=points)
    if output.as_json and not kind:
        output.document(found)
        return DONE
    shown = panels(found, wanted)
    if not shown:
        output.say(f"The training {job['job_id']} has taken no step yet that could be plotted: it is {job['state']}.")
        return FAILED
    if kind:
        return _write_picture(arguments.out, _picture(job, found, shown, kind), output)
    braille = terminal.can_write("\u28ff", sys.stdout.encoding) and os.environ.get("TERM") != "linux"
    output.line(_title(job), "bold")
    for panel in shown:
        output.line()
        terminal.show(panel, found["last_step"], found["resumed_at"], output, width=width, braille=braille)
    return DONE


def _wanted(given: str | None) -> Sequence[str]:
    names = [name.strip() for name in given.split(",") if name.strip()] if given is not None else list(USUAL)
    for name in names or [""]:
        if name not in SHOWN:
            raise UsageError(f"{name!r} cannot be plotted.", f"There are: {', '.join(SHOWN)}.", "--show loss,speed")
    return names


def _kind(path: str) -> str:
    kind = os.path.splitext(path)[1].lower().lstrip(".")
    if kind not in ("svg", "png"):
        raise UsageError(
            f"{path} does not say which kind of picture it is to be.",
            "Its name ends in .svg or .png.",
            "--out loss.svg",
        )
    return kind


def _title(job: Document) -> str:
    name = f" {job['name']}" if job.get("name") else ""
    return f"Training {job['job_id']}{name}: {job['model_id']} on {job['dataset_id']}"


def _picture(job: Document, found: Document, shown: "Sequence[Panel]", kind: str) -> bytes:
    from btmctl.plots import figure

    of = f" of {found['total_steps']:,}" if found["total_steps"] > found["last_step"] else ""
    subtitle = f"{found['last_step']:,}{of} steps; preset {job['preset']}; {job['state']}"
    if found["thinned"]:
        subtitle += "; light bands reach from the lowest to the highest value of neighbouring steps"
    drawn = figure.draw(found, shown, _title(job), subtitle)
    if kind == "svg":
        from btmctl.plots import svg

        return svg.write(drawn)
    from btmctl.plots import png

    return png.write(drawn)


def _write_picture(path: str, content: bytes, output: Output) -> int:
    """Whole or not at all: beside its place first."""
    aside = f"{path}.{os.getpid()}.part"
    try:
        with open(aside, "wb") as file:
            file.write(content)
        os.replace(aside, path)
    except OSError as problem:
        if os.path.exists(aside):
            os.unlink(aside)
        output.problem(f"The picture {path} could not be written.", str(problem.strerror), "Choose another folder.")
        return FAILED
    if output.as_json:
        output.document({"path": os.path.abspath(path), "size_bytes": len(content)})
    else:
        output.line(os.path.abspath(path))
    return DONE
