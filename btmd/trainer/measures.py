"""What is measured before and after beside the held-out loss: general knowledge, and answers by their words."""

import time
from pathlib import Path
from typing import Literal

import numpy as np

from btmd.data.sequences import TEXT_TRAINING, micro_batches
from btmd.trainer.answers import Question, answer_all, choose_questions, read_answers, write_answers
from btmd.trainer.overlap import overlap
from btmd.trainer.run import Run
from btmd.trainer.state import Scores
from btmd.trainer.step import make_batch

_QUESTIONS_TOGETHER = 20
_LEAST_TOKENS_TOGETHER = 1024


def measure_before(run: Run) -> None:
    """Measure the untrained model in every way, so that the trained one can be compared. Raises StopRequested."""
    progress = run.state.progress
    if run.has_held_out:
        run.reporter.stage("evaluating", "Measuring the model before training.")
        progress.held_out_before = run.measure("before").loss
    progress.before = _scores(run, "before")


def scores_after(run: Run) -> Scores:
    """The same of the present weights, but for the held-out loss. Raises StopRequested."""
    return _scores(run, "after")


def _scores(run: Run, when: Literal["before", "after"]) -> Scores:
    general = _general_loss(run)
    questions = _questions(run)
    texts = _answered(run, questions, base=False)
    if when == "before":
        for question, text in zip(questions, texts, strict=True):
            question.sample.base = text
        _keep(run, questions)
    else:
        _add_base_answers(run, questions)
        for question, text in zip(questions, texts, strict=True):
            question.sample.tuned = text
        _keep(run, questions)
    marked = [(text, one.sample.expected) for one, text in zip(questions, texts, strict=True) if one.scored]
    found = overlap(marked)
    return Scores(
        general=general,
        overlap=None if found is None else found.f1,
        exact=None if found is None else found.exact,
        answers=len(marked),
    )


def _general_loss(run: Run) -> float | None:
    """The mean loss per token of the everyday questions; None where there are none or it is not a number."""
    rows = run.material.general
    if rows is None or len(rows) == 0:
        return None
    began_s = time.monotonic()
    total, tokens = 0.0, 0
    for together in micro_batches(np.argsort(rows.lengths, kind="stable"), _QUESTIONS_TOGETHER):
        run.stop.leave_if_asked()
        loss, count = run.state.model.evaluate_loss_sum(make_batch(rows, together))
        total += loss
        tokens += count
    run.state.progress.costs.general_s = time.monotonic() - began_s
    return total / tokens if np.isfinite(total) else None


def _questions(run: Run) -> list[Question]:
    plan, material = run.plan, run.material
    # Of two answers to one question neither is the only right one, and a text can go on in many ways.
    comparable = not run.objective.compares and plan.training_type != TEXT_TRAINING
    return choose_questions(
        Path(plan.rows_path),
        material.dataset.held_out,
        material.encoder,
        shown=plan.sample_answers,
        scored=plan.scored_answers if comparable else 0,
        sample_tokens=plan.sample_tokens,
    )


def _answered(run: Run, questions: list[Question], *, base: bool) -> list[str]:
    plan = run.plan
    texts, run.state.progress.costs.answering = answer_all(
        run.state.model,
        run.material.encoder,
        questions,
        base=base,
        # What a training step has room for is enough here.
        most_tokens=max(_LEAST_TOKENS_TOGETHER, plan.micro_batch_size * plan.max_length),
        between=run.stop.leave_if_asked,
    )
    return texts


def _add_base_answers(run: Run, questions: list[Question]) -> None:
    """What the untrained model has said; where that was not kept and the adapter can be left out, it is asked now."""
    plan = run.plan
    told = {sample.line: sample.base for sample in read_answers(run.folder.answers_path, plan.answers_keys)}
    for question in questions:
        question.sample.base = told.get(question.sample.line)
    missing = [one for one in questions if one.shown and one.sample.base is None]
    if missing and plan.can_leave_out:
        for question, text in zip(missing, _answered(run, missing, base=True), strict=True):
            question.sample.base = text


def _keep(run: Run, questions: list[Question]) -> None:
    shown = [question.sample for question in questions if question.shown]
    write_answers(run.folder.answers_path, shown, run.plan.answers_keys)
