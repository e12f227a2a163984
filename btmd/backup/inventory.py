"""What there is beside the log: which of it goes along with a backup, and what a restore would miss of the rest."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from btmd.backup.artefacts import BLOCK_BYTES, Artefact
from btmd.backup.manifests import ArtefactKind, Omission
from btmd.backup.private_files import open_private
from btmd.backup.requests import DatasetFiles, Inventory, JobFiles, NamedFile

ADAPTER_FILE = "adapter_config.json"
"""A result folder with it is an adapter; without it a whole model."""


class Sorted:
    """Collects artefacts, and omissions by what they are."""

    def __init__(self) -> None:
        self.artefacts: list[Artefact] = []
        self._omitted: dict[tuple[str, str], tuple[int, int]] = {}

    def omit(self, what: str, then: str, count: int, size_bytes: int) -> None:
        if count:
            before = self._omitted.get((what, then), (0, 0))
            self._omitted[what, then] = (before[0] + count, before[1] + size_bytes)

    @property
    def omissions(self) -> list[Omission]:
        return [Omission(what, *counted, then) for (what, then), counted in self._omitted.items()]


def sort_inventory(inventory: Inventory, components: Iterable[str], *, with_artefacts: bool) -> Sorted:
    """What goes along with a backup of ``components``, and what does not."""
    found, held = Sorted(), set(components) if with_artefacts else set()
    for dataset in inventory.datasets:
        _sort_dataset(found, dataset, wanted="datasets" in held)
        if dataset.allowed and "jobs" in held:
            for key in dataset.answers_keys:
                found.artefacts.append(_measured("answers_key", dataset.dataset_id, Path(key), dataset.dataset_id))
    for job in inventory.jobs:
        _sort_job(found, job, wanted="jobs" in held)
    found.omit(
        "base models",
        "Models are used where they lie: keep a copy of their folders, or fetch them again.",
        inventory.models,
        inventory.models_bytes,
    )
    return found


def _sort_dataset(found: Sorted, dataset: DatasetFiles, *, wanted: bool) -> None:
    there = [file for file in dataset.files if os.path.isfile(file.path)]
    if len(there) < len(dataset.files):
        found.omit("contents that are missing", "They were gone already.", len(dataset.files) - len(there), 0)
    if not wanted:
        then = "The dataset is known, but has to be added again before it can be trained on."
        found.omit("contents of datasets", then, len(there), _total(there))
    elif not dataset.allowed:
        then = "Nobody allows that they go into backups: `btmctl consent grant D --scope backup` does."
        found.omit("contents of datasets without consent", then, len(there), _total(there))
    else:
        for file in there:
            size_bytes = os.path.getsize(file.path)
            found.artefacts.append(
                Artefact(
                    "dataset",
                    dataset.dataset_id,
                    file.name,
                    Path(file.path),
                    file.sha256,
                    size_bytes,
                    dataset.dataset_id,
                )
            )


def _sort_job(found: Sorted, job: JobFiles, *, wanted: bool) -> None:
    if job.checkpoints:
        sizes = [path.stat().st_size for path in Path(job.checkpoints).rglob("*") if path.is_file()]
        then = "A job that was not finished has to be started again from its beginning."
        found.omit("checkpoints of unfinished jobs", then, 1 if sizes else 0, sum(sizes))
    result = [path for path in sorted(Path(job.result).rglob("*")) if path.is_file() and not path.is_symlink()]
    size_bytes = sum(path.stat().st_size for path in result)
    if result and not Path(job.result, ADAPTER_FILE).is_file():
        found.omit(
            "models trained as a whole",
            "Keep a copy of their folders: `btmctl jobs result` says where they are.",
            1,
            size_bytes,
        )
    elif result and not wanted:
        found.omit("trained adapters", "Their jobs are known, but have to be trained again.", 1, size_bytes)
    else:
        for path in result:
            if path.parent == Path(job.result):
                found.artefacts.append(_measured("adapter", job.job_id, path, None))
            else:
                found.omit("files below an adapter", "They are not needed to use it.", 1, path.stat().st_size)
    answers = Path(job.answers)
    if answers.is_file() and wanted and not job.answers_allowed:
        then = "Nobody allows that what was made from their rows goes into backups."
        found.omit("sample answers from datasets without consent", then, 1, answers.stat().st_size)
    elif answers.is_file() and wanted:
        # Made from the dataset's rows, so they go when it is erased.
        found.artefacts.append(_measured("answers", job.job_id, answers, job.dataset_id))


def _measured(kind: ArtefactKind, owner: str, path: Path, dataset_id: str | None) -> Artefact:
    digest, size_bytes = hashlib.sha256(), 0
    with open_private(path) as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
            size_bytes += len(block)
    return Artefact(kind, owner, path.name, path, digest.hexdigest(), size_bytes, dataset_id)


def _total(files: Iterable[NamedFile]) -> int:
    return sum(os.path.getsize(file.path) for file in files)
