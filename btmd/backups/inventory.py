"""What there is beside the log that a backup may take along."""

from pathlib import Path

from btmd.backup.requests import DatasetFiles, Inventory, JobFiles, NamedFile
from btmd.data.answers_file import key_files
from btmd.domain.job import ENDED
from btmd.projections.dataset import datasets, versions
from btmd.projections.job import jobs
from btmd.projections.model import models
from btmd.registry.content import ContentStore
from btmd.store.event_log import Store


async def take_inventory(store: Store, contents: ContentStore, jobs_dir: Path, answers_keys_dir: Path) -> Inventory:
    """Datasets with their files, jobs with their results, and what the registered models take."""
    async with store.session() as session:
        found_models = await models(session)
        found_jobs = await jobs(session, limit=1_000_000)
        found_datasets = [(row, await versions(session, row.dataset_id)) for row in await datasets(session)]
    backed_up = {row.dataset_id for row, _ in found_datasets if "backup" in row.scopes}
    return Inventory(
        datasets=tuple(
            DatasetFiles(
                row.dataset_id,
                row.dataset_id in backed_up,
                tuple(
                    NamedFile(sha256, str(contents.path(sha256)), sha256)
                    for sha256 in sorted(contents.with_chunks(version.rows_sha256 for version in every))
                ),
                tuple(str(path) for path in key_files(answers_keys_dir / row.dataset_id)),
            )
            for row, every in found_datasets
        ),
        jobs=tuple(
            JobFiles(
                row.job_id,
                row.dataset_id,
                str(jobs_dir / row.job_id / "result"),
                str(jobs_dir / row.job_id / "answers.json"),
                "" if row.state in ENDED else str(jobs_dir / row.job_id / "checkpoints"),
                row.dataset_id in backed_up,
            )
            for row in found_jobs
        ),
        models=len(found_models),
        models_bytes=sum(row.facts.size_bytes for row in found_models),
    )
