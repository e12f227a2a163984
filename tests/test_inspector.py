"""The daemon gets facts or a typed refusal from a child; cancelling or running late leaves neither child nor files."""

import json
import os
from pathlib import Path

import anyio
import pytest

from btmd.data.row_chunks import chunks_folder
from btmd.errors import ChildFailed, DatasetEmpty, ModelDamaged, PickledWeights
from btmd.inspection.requests import ConvertGgufRequest, DatasetRequest, ModelRequest, TokensRequest
from btmd.registry.inspector import Inspector
from tests.fixtures.tiny_model import make_tiny_llama


def write_rows(path: Path, count: int) -> Path:
    path.write_text("".join(json.dumps({"question": f"q{n}", "answer": "a" * 50}) + "\n" for n in range(count)))
    return path


def dataset_request(source: Path, rows: Path) -> DatasetRequest:
    return DatasetRequest(source=str(source), name="data.jsonl", rows=str(rows))


def children() -> set[str]:
    """Processes of ours that inspect."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            status = (entry / "status").read_text()
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if b"btmd.inspection" in command and f"PPid:\t{os.getpid()}\n" in status:
            found.add(entry.name)
    return found


async def test_dataset_model_and_tokens_one_after_another(tmp_path: Path) -> None:
    inspector = Inspector()
    rows = tmp_path / "rows"
    facts = await inspector.dataset(dataset_request(write_rows(tmp_path / "data", 20), rows))
    assert facts.rows_kept == 20
    folder = make_tiny_llama(tmp_path / "model")
    model = await inspector.model(ModelRequest(folder=str(folder)))
    assert model.family == "llama"
    tokens = await inspector.tokens(TokensRequest(rows=str(rows), model=str(folder), max_length=16))
    assert tokens.rows == 20
    assert children() == set()


async def test_progress_arrives_while_it_works(tmp_path: Path) -> None:
    heard: list[float] = []
    source = write_rows(tmp_path / "data", 60_000)
    await Inspector().dataset(dataset_request(source, tmp_path / "rows"), lambda share, _text: heard.append(share))
    assert heard
    assert heard == sorted(heard)
    assert all(0 <= share <= 1 for share in heard)


async def test_refusals_arrive_as_the_errors_they_are(tmp_path: Path) -> None:
    inspector = Inspector()
    (tmp_path / "data").write_text("")
    with pytest.raises(DatasetEmpty) as refusal:
        await inspector.dataset(dataset_request(tmp_path / "data", tmp_path / "rows"))
    assert refusal.value.hint
    folder = make_tiny_llama(tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "model.bin")
    with pytest.raises(PickledWeights):
        await inspector.model(ModelRequest(folder=str(folder)))
    (tmp_path / "half.gguf").write_bytes(b"GGUF\x03\0\0\0")
    with pytest.raises(ModelDamaged):
        await inspector.convert_gguf(
            ConvertGgufRequest(source=str(tmp_path / "half.gguf"), folder=str(tmp_path / "converted"))
        )
    assert sorted(os.listdir(tmp_path)) == ["data", "half.gguf", "model"]


async def test_cancelling_ends_the_child_and_clears_what_it_had_begun(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "data", 400_000)
    rows = tmp_path / "rows"
    async with anyio.create_task_group() as tasks:

        def stop(_share: float, text: str) -> None:
            if "rows read" in text:
                assert chunks_folder(rows).exists()
                tasks.cancel_scope.cancel()

        tasks.start_soon(Inspector().dataset, dataset_request(source, rows), stop)
    assert children() == set()
    assert os.listdir(tmp_path) == ["data"]


async def test_past_its_deadline_it_is_given_up(tmp_path: Path) -> None:
    fifo = tmp_path / "endless"
    os.mkfifo(fifo)
    folder = make_tiny_llama(tmp_path / "model")
    with pytest.raises(ChildFailed, match="longer than"):
        await Inspector(deadline_s=1.5).tokens(TokensRequest(rows=str(fifo), model=str(folder)))
    assert children() == set()


async def test_a_child_that_is_killed_is_an_error_in_words(tmp_path: Path) -> None:
    fifo = tmp_path / "endless"
    os.mkfifo(fifo)
    folder = make_tiny_llama(tmp_path / "model")

    async def kill() -> None:
        while not (found := children()):  # noqa: ASYNC110 (another process has no event to wait for)
            await anyio.sleep(0.05)
        os.kill(int(found.pop()), 9)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(kill)
        with pytest.raises(ChildFailed, match="signal 9"):
            await Inspector().tokens(TokensRequest(rows=str(fifo), model=str(folder)))


async def test_no_more_children_at_once_than_allowed(tmp_path: Path) -> None:
    inspector = Inspector(at_once=1)
    most = 0

    def look(_share: float, _text: str) -> None:
        nonlocal most
        most = max(most, len(children()))

    async with anyio.create_task_group() as tasks:
        for number in range(3):
            source = write_rows(tmp_path / f"data{number}", 20_000)
            tasks.start_soon(inspector.dataset, dataset_request(source, tmp_path / f"rows{number}"), look)
    assert most == 1
