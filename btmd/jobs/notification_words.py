"""What is told of a job's event, in words; nothing where it holds no more."""

from collections.abc import Sequence
from pathlib import Path

from btmd.domain.event import Event
from btmd.domain.job_events import AnswerAsked, JobCancelled, JobCompleted, JobFailed, TrainingProgressed
from btmd.domain.notification import ATTENTION, FAILED, FINISHED, WARNINGS
from btmd.domain.warning import CRITICAL, WarningRaised
from btmd.jobs.job_progress import job_warnings
from btmd.jobs.outcome import job_result
from btmd.monitoring.texts import TEXTS
from btmd.projections.job import JobRow
from btmd.store.event_log import Store

MOST_LINES = 8
MOST_LETTERS = 1000
URGENT = (FAILED, ATTENTION, WARNINGS)
MARKS = (25, 50, 75)
TOLD_TYPES = (JobCompleted.TYPE, JobFailed.TYPE, JobCancelled.TYPE, AnswerAsked.TYPE, WarningRaised.TYPE)


def kind_of(happened: Event) -> str:
    """Which kind of notification an event is worth, by itself; empty for none."""
    match happened:
        case JobCompleted():
            return FINISHED
        case JobFailed():
            return FAILED
        case JobCancelled():
            # What somebody asked for is no news to them.
            return FAILED if happened.reason == "consent" else ""
        case AnswerAsked():
            return ATTENTION
        case WarningRaised():
            return WARNINGS if happened.severity == CRITICAL else ""
    return ""


def mark_of(tick: TrainingProgressed) -> int:
    """The highest of MARKS that a training has come to; 0 before the first."""
    share = 100 * tick.step / tick.total_steps if tick.total_steps else 0
    return max((mark for mark in MARKS if share >= mark), default=0)


async def words_of(store: Store, jobs_dir: Path, row: JobRow, happened: Event, mark: int) -> tuple[str, str] | None:
    """Title and text; None for a question that was answered and a warning that was withdrawn meanwhile."""
    name = row.name or row.job_id
    match happened:
        case JobCompleted():
            if row.state != "completed":
                return None
            told = await job_result(store, row, jobs_dir)
            return TEXTS["notice_finished"].format(name=name), told.performance_summary
        case JobFailed():
            return TEXTS["notice_failed"].format(name=name), f"{happened.text} {happened.hint}".strip()
        case JobCancelled():
            return TEXTS["notice_ended"].format(name=name), TEXTS["notice_consent"]
        case AnswerAsked():
            if row.state != "needs_attention":
                return None
            text = TEXTS["notice_answer"].format(question=happened.question, job=row.job_id)
            return TEXTS["notice_attention"].format(name=name), text
        case WarningRaised():
            for one in await job_warnings(store, row):
                if one.row.kind == happened.kind and one.row.holds:
                    return TEXTS["notice_warning"].format(name=name), f"{one.text} {one.advice}".strip()
            return None
        case TrainingProgressed():
            text = TEXTS["notice_step"].format(step=happened.step, total=happened.total_steps)
            return TEXTS["notice_progress"].format(name=name, percent=mark), text
    return None


def digest(told: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """One thing as it is; several as one title over a line for each."""
    if len(told) == 1:
        return told[0][0], told[0][1][:MOST_LETTERS]
    lines = [title for title, _ in told[:MOST_LINES]]
    if len(told) > MOST_LINES:
        lines.append(TEXTS["notice_more"].format(count=len(told) - MOST_LINES))
    return TEXTS["notice_several"].format(count=len(told)), "\n".join(lines)
