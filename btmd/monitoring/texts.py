"""Every sentence of progress and results, in one place: a translation replaces this table and nothing else.

Names in braces are filled in by the caller. The status texts are a fixed contract and never translated.
"""

from btmd.monitoring.curve_texts import CURVE_TEXTS
from btmd.monitoring.notice_texts import NOTICE_TEXTS
from btmd.monitoring.queue_texts import QUEUE_TEXTS
from btmd.monitoring.warning_texts import WARNING_TEXTS

STATUS: dict[str, str] = {
    "queued": "Getting ready...",
    "validating": "Checking everything...",
    "preparing": "Setting up training...",
    "training": "Training in progress",
    "paused": "Training paused",
    "recovering": "Recovering...",
    "needs_attention": "Waiting for your answer",
    "evaluating": "Evaluating results...",
    "completed": "Training completed!",
    "failed": "Training encountered an issue",
    "cancelled": "Training was cancelled",
}
CALCULATING = "Calculating..."
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)

TEXTS: dict[str, str] = {
    # --- what it is doing now -------------------------------------------------------------------
    "queued_next": "It starts as soon as the machine is free.",
    "queued_behind_one": "One other job comes first; then it starts by itself.",
    "queued_behind": "{count} other jobs come first; then it starts by itself.",
    "validating": "It looks over the model and the data before anything is changed.",
    "preparing": "It loads the model and turns your rows into tokens.",
    "training_begins": "The training begins; the first step takes a little longer than the others.",
    "training": "Pass {epoch} of {epochs} over your data, step {step} of {total}.",
    "training_one_pass": "One pass over your data, step {step} of {total}.",
    "loss_falling": "The model makes fewer mistakes than at the start (loss {first:.2f}, now {last:.2f}).",
    "loss_falling_lately": "The model still makes fewer mistakes (loss {last:.2f}, a while ago {first:.2f}).",
    "loss_rising_lately": "The model makes more mistakes than a while ago (loss {first:.2f}, now {last:.2f}).",
    "loss_flat": "The loss hardly changes ({last:.2f}).",
    "loss_rising": "The model makes more mistakes than at the start (loss {first:.2f}, now {last:.2f}).",
    "finish": "It should be finished {when}.",
    "asked_pause": "It saves a checkpoint and then pauses.",
    "asked_stop": "It ends early and keeps the best state it found.",
    "asked_cancel": "It is being cancelled.",
    "asked_consent": "It saves a checkpoint and ends: the consent to use its data was withdrawn.",
    "paused": "Paused at step {step} of {total}; nothing is lost. `btmctl jobs resume {job}` goes on from there.",
    "paused_unstarted": "Paused before it began. `btmctl jobs resume {job}` starts it.",
    "recovering": "It goes on by itself from its last checkpoint.",
    "needs_attention": "It waits for an answer: `btmctl jobs answer {job} yes` or `no`.",
    "evaluating": "It measures on rows it has never learned from whether the model got better.",
    "completed": "The training is done. `btmctl jobs result {job}` shows what came of it.",
    "completed_early_stopping": "The training ended early, since it no longer got better; the best state was kept. "
    "`btmctl jobs result {job}` shows what came of it.",
    "completed_stopped": "The training was ended early, as asked, and its best state was kept. "
    "`btmctl jobs result {job}` shows what came of it.",
    "completed_unanswered": "The training had a question that nobody answered in time; the best state until then was "
    "kept. `btmctl jobs result {job}` shows what came of it.",
    "failed": "The training could not be finished.",
    "cancelled": "The training was cancelled.",
    # --- when it will be done --------------------------------------------------------------------
    "when_soon": "in less than two minutes",
    "when_today": "at about {clock}",
    "when_tomorrow": "tomorrow at about {clock}",
    "when_weekday": "on {weekday} at about {clock}",
    "when_date": "on {day} {month}, at about {clock}",
    "remaining_range": "{low} to {high}",
    # --- what came of it -------------------------------------------------------------------------
    "better": "It was worth it: on held-out rows, which it never learned from, the model's loss fell by "
    "{percent:.0f} % (from {before:.2f} to {after:.2f}).",
    "slightly_better": "It got a little better: on held-out rows, which it never learned from, the model's loss fell "
    "by {percent:.1f} % (from {before:.2f} to {after:.2f}).",
    "unchanged": "It made no real difference: on held-out rows, which it never learned from, the model's loss is "
    "{after:.2f}; it was {before:.2f}.",
    "unclear": "Whether it got better cannot be told: on held-out rows, which it never learned from, the model's loss "
    "went from {before:.2f} to {after:.2f}, and chance alone could do that.",
    "worse": "It made the model worse: on held-out rows, which it never learned from, the model's loss rose by "
    "{percent:.1f} % (from {before:.2f} to {after:.2f}). Better keep using the base model.",
    "overfitted": "It learned the rows by heart and became worse: on those it learned from the loss ended at "
    "{train:.2f}, on held-out rows, which it never learned from, it went from {before:.2f} to {after:.2f}. Better keep "
    "using the base model.",
    "overfitted_no_gain": "It learned the rows by heart and nothing beyond them: on those it learned from the loss "
    "ended at {train:.2f}, on held-out rows, which it never learned from, it is {after:.2f}; it was {before:.2f}.",
    "range_better": "With other rows like these the loss would fall by {low} to {high} % in nine cases of ten.",
    "range_worse": "With other rows like these the loss would rise by {low} to {high} % in nine cases of ten.",
    "range_either": "With other rows like these anything from {low} % worse to {high} % better could come out.",
    "hardly_right": "But its short answers came no nearer to those in the data ({after:.0f} % of {rows} are right word "
    "for word, before {before:.0f} %): it may have learned the form of the answers rather than what is in them.",
    "exact_answers": "Of {rows} short answers {after:.0f} % are right word for word now; before, {before:.0f} % were.",
    "overlap_answers": "Its short answers share {after:.0f} % of their words with those in the data (before: "
    "{before:.0f} %).",
    "forgot": "It forgot other things meanwhile: on questions of general knowledge, which your data has nothing to do "
    "with, its loss rose by {percent:.0f} % (from {before:.2f} to {after:.2f}).",
    "general_kept": "What it knew before is still there: on questions of general knowledge its loss went from "
    "{before:.2f} to {after:.2f}.",
    "rose_again": "After step {step} it only learned the rows by heart: on held-out rows the loss rose again.",
    "pairs_won": "In {percent:.0f} % of the held-out pairs the chosen answer has gained on the rejected one "
    "(on average by {margin:.2f}).",
    "perplexity": "Before each next piece of text it hesitated between about {before:,.1f} possibilities on average, "
    "now between {after:,.1f} (perplexity).",
    "unmeasured": "No rows were held out, so nobody can tell whether the model got better.",
    "ended_early_stopping": "The training ended early at step {steps} of {total}, because it no longer got better.",
    "ended_stopped": "You ended the training at step {steps} of {total}.",
    "ended_unanswered": "It had a question that nobody answered in time, so the training ended at step {steps} of "
    "{total}.",
    "ended_time": "The time ran out at step {steps} of {total}.",
    "best_kept": "The state after step {best} was the best and is the one that was kept.",
    "took": "It took {duration}.",
    "failed_summary": "The training ended without a result. {text}",
    "cancelled_summary": "The training was cancelled at step {steps} of {total}; there is no result.",
    "cancelled_consent": "The training was ended because the consent to use its data was withdrawn.",
    # --- two trainings side by side ---------------------------------------------------------------
    "verdict_better": "better",
    "verdict_slightly_better": "a little better",
    "verdict_unchanged": "no difference",
    "verdict_worse": "worse",
    "verdict_overfitted": "learned by heart",
    "verdict_forgot": "forgot other things",
    "verdict_unmeasured": "not measured",
    "compare_unmeasured": "One of the two has no measured loss on held-out rows, so nobody can tell which is better.",
    "compare_other_rows": "The two were measured on different held-out rows or in different ways, so their losses say "
    "nothing about each other; each improvement is to its own start.",
    "compare_same": "Both came to the same held-out loss ({low:.4f}).",
    "compare_better": "Job {job} came out better: held-out loss {low:.4f} against {high:.4f}, on the same rows.",
    "compare_chance": "Job {job} came out lower (held-out loss {low:.4f} against {high:.4f}, on the same rows), but "
    "chance alone could do that.",
    "repeat_same": "It came out exactly as job {job} did: all {count} losses that were measured are the same.",
    "repeat_nearly": "It came out as job {job} did but for small differences: its losses differ by at most "
    "{percent:.2g} %.",
    "repeat_differs": "It did not come out as job {job} did: it ended at {again}, and job {job} at {first}.",
    "repeat_conditions": "Computed otherwise: {differences}.",
    "repeat_no_reason": "Nothing that is recorded of the two says why.",
    # --- what to do next --------------------------------------------------------------------------
    "next_chat": "Ask the model before and after the training the same thing: `btmctl chat {job} --both`",
    "next_logs": "See what the training wrote last: `btmctl jobs logs {job}`",
    "next_plot": "See the course of the loss: `btmctl jobs plot {job}`",
    "next_again": "Train again with what is recommended above: `{command}`",
    "advise_more_epochs": "It was still getting better at the end: more passes may help (--set num_epochs={epochs}).",
    "advise_fewer_epochs": "The best state came early, at step {best} of {steps}: fewer passes are enough "
    "(--set num_epochs={epochs}).",
    "advise_higher_rate": "Hardly anything was learned: try a higher learning rate (--set learning_rate={rate:g}) or "
    "more passes (--set num_epochs={epochs}).",
    "advise_known": "It knew these answers before (its loss was {before:.2f}): there is little left to learn from such "
    "rows.",
    "advise_lower_rate": "Try a lower learning rate (--set learning_rate={rate:g}).",
    "advise_check_data": "Look over the data for wrong or contradicting answers (`btmctl datasets check {dataset}`).",
    "advise_more_rows": "There were only {rows} rows to learn from: more rows help most.",
    "advise_more_held_out": "Only {rows} rows were held out, too few to tell: hold more out "
    "(--set held_out_fraction={fraction:g}).",
    "advise_measure": "Measure during the training, so that the best state is kept and not the last "
    "(--set eval_every={steps}).",
    "advise_keep_general": "To keep what it knew before: a lower learning rate (--set learning_rate={rate:g}), and "
    "some general questions and answers among your rows.",
    "advise_adapter": "To keep what it knew before: train an adapter instead of all weights "
    "(--set training_type=lora_adaptation).",
    "advise_check_answers": "Look whether the answers belong to their questions (`btmctl datasets preview {dataset}`).",
    "advise_hold_out": "Hold some rows out next time (--set held_out_fraction=0.1).",
    # --- why an attempt ended that could not say so itself -----------------------------------------
    "cause_group_memory": "The training process was killed by the system, because it took more memory than its control "
    "group may have{limit}.",
    "cause_machine_memory": "The training process was killed by the system, because the machine ran out of memory.",
    "cause_memory_pressure": "The training process was killed when {percent:.0f} % of the memory was in use, most "
    "likely to make room.",
    "cause_refused_memory": "The training process asked for memory that it was not given{limit}, and ended.",
    "cause_disk_full": "The training process ended because the disk is full.",
    "cause_killed": "The training process was killed (signal 9), by a person or another program: memory was not short.",
    "cause_fault": "The training process crashed (signal {signal}, {name}).",
    "cause_signal": "The training process was ended by signal {signal}, which another program sent.",
    "cause_exit": "The training process ended with code {code} without a word.",
    "cause_unseen": "The training process ended without a word.",
    "cause_stopped": "Before that it was stopped by a signal (it stood still, and nothing resumed it).",
    "found_hung": "The training process stood still, so it was ended.",
    "found_stopped": "The training process was stopped by a signal and nothing resumed it, so it was ended.",
    "found_loss_diverging": "The loss ran away at step {step}, so the training was ended there.",
    "found_loss_spiking": "The loss jumped at step {step} and did not come back, so the training was ended there.",
    "found_not_a_number": "The loss was not a number any more at step {step}, so the training was ended there.",
    "found_other": "The training was ended because something was wrong with it ({kind}).",
    # --- what is done about a failure -----------------------------------------------------------------
    "recovery_again": "It is taken up again from its last checkpoint.",
    "recovery_again_later": "It is taken up again from its last checkpoint, after a wait of {wait} (attempts that "
    "failed without getting any further: {times}).",
    "recovery_smaller_micro_batch": "It computes {now} rows at once instead of {before} from now on; a step still "
    "learns from {batch} rows, so the result is the same.",
    "recovery_checkpointing": "It keeps fewer intermediate results and computes them twice from now on: slower, with "
    "less memory and the same result.",
    "recovery_skip_rows": "It goes back to the checkpoint before step {step} and leaves out what made the numbers "
    "run away: {rows}.",
    "recovery_lower_rate": "It goes back to a checkpoint from before and learns more gently from now on: the learning "
    "rate is {now:g} instead of {before:g}.",
    "recovery_exact_precision": "It goes back to a checkpoint from before and computes with full precision (fp32) "
    "instead of {before} from now on.",
    "recovery_fewer_checkpoints": "Only the best and the newest checkpoint are kept from now on, and it goes on from "
    "the newest.",
    "recovery_again_with_room": "There is room on the disk ({free} free), so it goes on from its last checkpoint.",
    "recovery_wait_for_room": "It waits for room on the disk: {free} are free, about {needed} are needed. It "
    "goes on by itself once they are there.",
    "recovery_wait_for_device": "It waits until the GPU can be used again, and then goes on by itself.",
    "recovery_shorter": "It learns from shorter rows from now on, as you allowed: {now} tokens instead of {before}; "
    "longer ones are left out.",
    "recovery_lora": "It trains a small adapter instead of all weights from now on, as you allowed, with the learning "
    "rate of an adapter ({rate:g}); it begins anew.",
    "recovery_qlora": "It trains a small adapter on a base of four bits from now on, as you allowed, with a learning "
    "rate of {rate:g}; it begins anew.",
    "recovery_cpu": "It goes on with the CPU instead of the GPU, as you allowed. That is much slower.",
    "recovery_simpler": "It goes on with the simpler preset {preset}, as you allowed; it begins anew.",
    "recovery_permitted": "You permitted it, so it goes on: {change}.",
    # --- what a person is asked ------------------------------------------------------------------------
    "change_shorter": "rows of at most {now} tokens instead of {before} (longer ones are left out)",
    "change_lora": "a small adapter instead of all weights (learning rate {rate:g}); it begins anew",
    "change_qlora": "a small adapter on a base of four bits (learning rate {rate:g}); it begins anew",
    "change_cpu": "the CPU instead of the GPU, which is much slower",
    "change_simpler": "the simpler preset {preset}; it begins anew",
    "change_try_again": "the same once more",
    "question": "It cannot go on as you asked. May it go on with {change}?",
    "question_try_again": "That has happened {times} times without getting any further. Shall it be tried again?",
    "question_wait_for_room": "It has waited for room on the disk for {waited}: {free} are free, about {needed} are "
    "needed. `btmctl disk` shows what takes the room. It goes on by itself once there is enough. Shall it wait on?",
    "question_wait_for_device": "It has waited for {waited} until the GPU can be used again; `btmctl hardware` shows "
    "what is there. It goes on by itself once it is. Shall it wait on?",
    "question_deadline": "Without an answer within {wait} it ends and keeps its best checkpoint.",
    "question_deadline_empty": "Without an answer within {wait} it ends; there is no checkpoint yet.",
    "question_deadline_waiting": "Without an answer within {wait} it ends; its last checkpoint is kept, and it can be "
    "taken up again from there.",
    # --- when nothing is left --------------------------------------------------------------------------
    "gave_up_crash_limit": "The training process ended unexpectedly {times} times; it is not tried again by itself.",
    "gave_up_out_of_memory": "The memory is not enough, whatever is computed in smaller parts.",
    "gave_up_numbers": "The numbers ran away {times} times, with rows left out and a lower learning rate too.",
    "gave_up_tried": "It was tried {times} times without getting any further.",
    "gave_up_disk_full": "The disk was full {times} times.",
    "gave_up_waiting": "What its result needs was not there for {waited}, so it waits no longer.",
    "hint_logs": "`btmctl jobs logs {job}` shows what the training wrote last.",
    "hint_resume": "Its last checkpoint is kept: `btmctl jobs resume {job}` goes on from step {step}.",
    "hint_model": "`btmctl models add` with that folder takes the model as it is now; then train again.",
    "hint_less": "Closing other programs makes room; shorter rows (--set max_length=...) or a smaller model take less.",
    "hint_data": "`btmctl datasets check DATASET` looks for rows that are out of the ordinary; a lower learning rate "
    "(--set learning_rate=...) is gentler.",
    # --- an account of it ------------------------------------------------------------------------------
    "account_planned": "{name} was {before} in the plan and is {now}.",
    "account_rows": "Left out of the training: {rows}.",
    "account_attempt": "Attempt {number}: {said}",
    "account_lost_checkpoint": "The checkpoint of step {newest} was not there any more when attempt {attempt} began, "
    "so it went on from the one of step {began}.",
    "account_lost_checkpoints": "No checkpoint was there any more when attempt {attempt} began, though one of step "
    "{newest} had been saved, so it began anew.",
    "account_answer_yes": "The answer was yes.",
    "account_answer_no": "The answer was no.",
    "account_summary_one": "It failed once on the way and was taken up again by itself.",
    "account_summary": "It failed {times} times on the way and was taken up again by itself.",
    "account_unanswered": "Nobody answered in time.",
}

TEXTS.update(CURVE_TEXTS)
TEXTS.update(QUEUE_TEXTS)
TEXTS.update(NOTICE_TEXTS)
TEXTS.update(WARNING_TEXTS)


def text(key: str, **values: object) -> str:
    """The sentence ``key`` with its values filled in."""
    return TEXTS[key].format(**values)
