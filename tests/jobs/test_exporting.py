"""An export while consent is taken back."""

from pathlib import Path
from typing import Any, cast

import pytest

from btmd.domain.use import RecordExport
from btmd.errors import ConsentMissing
from btmd.exporting.requests import ExportFacts, ExportRequest
from btmd.fair_turns import FairTurns
from btmd.jobs import exporting as module
from btmd.jobs.exporting import Exporting, Wanted
from tests.store.given import ACTOR


class _Recording:
    def __init__(self) -> None:
        self.recorded: list[RecordExport] = []

    async def handle(self, command: RecordExport, **_: Any) -> None:
        self.recorded.append(command)


async def test_an_export_is_not_handed_out_when_consent_was_taken_back_while_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, handler = tmp_path / "exports" / "e", _Recording()

    async def require_use_allowed(*_: Any, **__: Any) -> None:
        if folder.exists():
            raise ConsentMissing("It was taken back.")

    async def request(*_: Any) -> tuple[Any, None]:
        return cast(ExportRequest, None), None

    async def written(*_: Any) -> ExportFacts:
        folder.mkdir(parents=True)
        return ExportFacts(files=(), dtype="", check=None)

    async def nothing(_: int) -> None:
        return None

    monkeypatch.setattr(module, "require_use_allowed", require_use_allowed)
    monkeypatch.setattr(module, "_parameters", lambda *_: 0)
    monkeypatch.setattr(module, "_written_bytes", lambda *_: 0)
    monkeypatch.setattr(Exporting, "_request", request)
    monkeypatch.setattr(Exporting, "_require_room", lambda *_: None)
    monkeypatch.setattr(Exporting, "_run", written)
    exporting = Exporting(
        store=cast(Any, None),
        handler=cast(Any, handler),
        jobs_dir=tmp_path,
        folder=folder.parent,
        reserve_bytes=0,
        turn=FairTurns(1),
    )
    row = cast(Any, type("Row", (), {"job_id": "aa"}))
    with pytest.raises(ConsentMissing):
        await exporting.make(row, Wanted("card"), "e", ACTOR, lambda *_: None, nothing)
    assert handler.recorded == []
    assert not folder.exists()
