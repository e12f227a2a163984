"""Whether what was made from a dataset may be used: consent holds for results as well, and for those built on them."""

from btmd.domain.dataset import stream_name
from btmd.domain.use import Allowed, allowed_with_results
from btmd.errors import ConsentMissing
from btmd.jobs.report import read_report
from btmd.projections import job as view
from btmd.projections.job import JobRow
from btmd.store.event_log import Store


async def require_use_allowed(store: Store, row: JobRow, *, scope: str = "") -> None:
    """Raises ConsentMissing where consent was taken back, or, with ``scope``, where nobody allowed that.

    An adapter that was begun with another job's learned from that one's dataset too.
    """
    for dataset_id in await lacking(store, row, scope):
        raise ConsentMissing(
            f"Nobody has allowed to take away what was made from the dataset {dataset_id}.",
            hint=f"`btmctl consent grant {dataset_id} --scope {scope}` allows it.",
        )


async def lacking(store: Store, row: JobRow, scope: str) -> list[str]:
    """The datasets with which nobody allowed ``scope`` yet. Raises ConsentMissing where consent was taken back."""
    found = []
    for dataset_id in await datasets_of(store, row):
        recorded = await store.read_stream(stream_name(dataset_id))
        allowed = allowed_with_results([one.event for one in recorded])
        _require_not_taken_back(dataset_id, row, allowed, scope)
        if scope and scope not in allowed.scopes:
            found.append(dataset_id)
    return found


async def datasets_of(store: Store, row: JobRow) -> list[str]:
    """The datasets that a result was made from, the job's own first."""
    found: dict[str, None] = {}
    seen: set[str] = set()
    next_one: JobRow | None = row
    while next_one is not None and next_one.job_id not in seen:
        seen.add(next_one.job_id)
        found[next_one.dataset_id] = None
        before = str((await read_report(store, next_one)).plan.get("from_job") or "")
        async with store.session() as session:
            next_one = await view.job(session, before) if before else None
    return list(found)


def _require_not_taken_back(dataset_id: str, row: JobRow, allowed: Allowed, scope: str) -> None:
    if allowed.erased:
        raise ConsentMissing(
            f"The dataset {dataset_id} that {row.job_id} learned from was erased: nobody allows the use of what was "
            "made from it any more.",
            hint=f"`btmctl audit log` shows who erased it; `btmctl jobs show {row.job_id}` what there is.",
        )
    if allowed.revoked:
        scopes = ",".join(("train", scope)) if scope else "train"
        raise ConsentMissing(
            f"The consent to use the dataset {dataset_id} was taken back: what was made from it is not used any more.",
            hint=f"`btmctl consent grant {dataset_id} --scope {scopes}` allows it again.",
        )
