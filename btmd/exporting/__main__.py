"""The exporting child: one export, then it ends. It has no network."""

import sys

import msgspec

from btmd.child.answering import Progress, answer_one
from btmd.child.isolation import isolate
from btmd.exporting.requests import ExportRequest


def perform(line: bytes, progress: Progress) -> msgspec.Struct:
    """Carry out the export that a line asks for. Raises msgspec.ValidationError, and what `export` raises."""
    from btmd.exporting.export import export

    return export(msgspec.json.decode(line, type=ExportRequest), progress)


def main() -> int:
    isolate()
    return answer_one(perform)


if __name__ == "__main__":
    sys.exit(main())
