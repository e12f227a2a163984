"""Whether what was made from a dataset may be used: consent holds for results as well, and for those built on them."""

from btmd.domain.dataset import stream_name
from btmd.domain.job import stream_name as job_stream
from btmd.domain.job_events import JobSubmitted
from btmd.domain.use import Allowed, allowed_with_results
from btmd.errors import ConsentMissing
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
    for dataset_id, made_seq in await _made_from(store, row):
        recorded = await store.read_stream(stream_name(dataset_id))
        allowed = allowed_with_results([(one.seq, one.actor.uid, one.event) for one in recorded], made_seq)
        _require_not_taken_back(dataset_id, row, allowed, scope)
        if scope and scope not in allowed.scopes:
            found.append(dataset_id)
    return list(dict.fromkeys(found))


async def _made_from(store: Store, row: JobRow) -> list[tuple[str, int]]:
    """The datasets that a result was made from, the job's own first, each with the number of the job's first event.

    Of jobs that it was built on the log tells, whether they are still there or not.
    """
    found: list[tuple[str, int]] = []
    seen: set[str] = set()
    job_id = row.job_id
    while job_id and job_id not in seen:
        seen.add(job_id)
        job_id, before = "", job_id
        for one in await store.read(streams=(job_stream(before),), limit=1):
            if isinstance(submitted := one.event, JobSubmitted):
                found.append((submitted.dataset_id, one.seq))
                job_id = str(submitted.plan.get("from_job") or "")
    return found


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
