"""Every sentence of progress and results, in one place: a translation replaces this table and nothing else.

Names in braces are filled in by the caller. The status texts are a fixed contract and never translated.
"""

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
    "range_better": "With other rows like these the loss would fall by {low:.0f} to {high:.0f} % in nine cases of ten.",
    "range_worse": "With other rows like these the loss would rise by {low:.0f} to {high:.0f} % in nine cases of ten.",
    "range_either": "With other rows like these anything from {low:.0f} % worse to {high:.0f} % better could come out.",
    "hardly_right": "But no more of its short answers are right word for word ({after:.0f} % of {rows}, before "
    "{before:.0f} %): it learned the form of the answers rather than what is in them.",
    "exact_answers": "Of {rows} short answers {after:.0f} % are right word for word now; before, {before:.0f} % were.",
    "overlap_answers": "They share {after:.0f} % of their words with the answers in the data (before: {before:.0f} %).",
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
    "ended_time": "The time ran out at step {steps} of {total}.",
    "best_kept": "The state after step {best} was the best and is the one that was kept.",
    "took": "It took {duration}.",
    "failed_summary": "The training ended without a result. {text}",
    "cancelled_summary": "The training was cancelled at step {steps} of {total}; there is no result.",
    "cancelled_consent": "The training was ended because the consent to use its data was withdrawn.",
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
}


def text(key: str, **values: object) -> str:
    """The sentence ``key`` with its values filled in."""
    return TEXTS[key].format(**values)
