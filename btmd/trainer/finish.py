"""The end of a run: the best state becomes the result, and held-out questions are answered."""

from typing import Any

import torch

from btmd.errors import Damaged
from btmd.frames import Finished
from btmd.trainer.measures import scores_after
from btmd.trainer.process import peak_resident_bytes, seconds_awake
from btmd.trainer.result import save_result
from btmd.trainer.run import EndedBy, Run
from btmd.trainer.state import HeldOutLoss, name_of_step


def finish(run: Run, ended_by: EndedBy) -> None:
    """Measure, go back to the best state, answer, write the result folder and say so. Raises StopRequested."""
    run.reporter.stage("evaluating", "Measuring the trained model.")
    after = _measure_after(run)
    result_step = after.step if after is not None else run.state.progress.step
    scores = _scores(run, result_step)
    run.reporter.stage("evaluating", "Writing the result.")
    save_result(
        run.folder,
        run.plan,
        run.state.model,
        run.state.progress,
        result_step=result_step,
        ended_by=ended_by,
        scores=scores,
    )
    _tell_finished(run, ended_by, after, result_step, scores)


def _scores(run: Run, result_step: int) -> dict[str, Any]:
    """What else was measured before and after, by the names of frames.Finished; the result's weights are in place."""
    before, after = run.state.progress.before, scores_after(run)
    sure = run.improvement(result_step) if run.state.progress.step else None
    both = before.general is not None and after.general is not None
    found: dict[str, Any] = {
        "general_before": before.general,
        "general_after": after.general,
        "general_questions": run.plan.general_questions if both else 0,
    }
    if before.answers == after.answers > 0:
        found |= {"overlap_before": before.overlap, "overlap_after": after.overlap}
        found |= {"exact_before": before.exact, "exact_after": after.exact, "scored_answers": after.answers}
    if sure is not None:
        found |= {"held_out_low": sure.low, "held_out_high": sure.high, "held_out_rows": sure.rows}
    return found


def _measure_after(run: Run) -> HeldOutLoss | None:
    """Make the best state the present one, and return its held-out loss; None when nothing was held out."""
    progress = run.state.progress
    if not run.has_held_out or progress.step == 0:
        return None
    if not progress.evaluated_now():
        progress.note_evaluation(run.measure("during"))
    last, best = progress.evaluations[-1], progress.best
    if best is None or best.step == progress.step:
        return _tell_after(run, last)
    # From here on the weights are older than the rest of the state: a pause must find the present one saved.
    run.save()
    try:
        tensors, _ = run.checkpoints.load(name_of_step(best.step), only="weights")
    except Damaged as error:
        run.reporter.checkpoint_rejected(name=name_of_step(best.step), reason=error.detail, used_instead=run.saved_name)
        progress.best = last
        return _tell_after(run, last)
    run.state.model.load_state_tensors(tensors["weights"])
    return _tell_after(run, best)


def _tell_after(run: Run, loss: HeldOutLoss) -> HeldOutLoss:
    run.reporter.evaluated(
        step=loss.step,
        loss=loss.loss,
        tokens=loss.tokens,
        when="after",
        seconds=0.0,
        margin=loss.margin,
        accuracy=loss.accuracy,
    )
    return loss


def _tell_finished(
    run: Run, ended_by: EndedBy, after: HeldOutLoss | None, result_step: int, scores: dict[str, Any]
) -> None:
    progress, device = run.state.progress, run.state.model.device
    on_gpu = device.type == "cuda"
    run.reporter.finished(
        lambda at_us: Finished(
            at_us,
            ended_by=ended_by,
            steps=progress.step,
            final_loss=progress.last_loss,
            held_out_before=progress.held_out_before,
            held_out_after=after.loss if after is not None else None,
            margin=after.margin if after is not None else None,
            accuracy=after.accuracy if after is not None else None,
            best_step=result_step,
            training_s=progress.training_s,
            result=run.folder.result.name,
            peak_memory_bytes=peak_resident_bytes(),
            peak_gpu_memory_bytes=int(torch.cuda.max_memory_reserved(device)) if on_gpu else None,
            attempt_s=seconds_awake(),
            folder_bytes=run.folder.size_bytes(),
            **scores,
        )
    )
