"""The sentences of warnings: for each kind what is wrong (``warn_``) and what to do about it (``remedy_``).

A part of the catalogue in ``btmd.monitoring.texts``; kinds are those of ``btmd.monitoring.watch``.
"""

WARNING_TEXTS: dict[str, str] = {
    "warn_other": "Something is not as it should be ({kind}); its figures are those of another release of btmd.",
    "warn_stalled": "Nothing was heard from the training for {silent}; usually it reports every {usual}.",
    "warn_stalled_first": "Nothing was heard from the training for {silent}.",
    "remedy_stalled": "Wait a little, and see what it wrote last: `btmctl jobs logs {job}`. "
    "`btmctl jobs pause {job}` and then `btmctl jobs resume {job}` take it up again from its last checkpoint.",
    "warn_hung_stopped": "The training process was stopped (as by Ctrl-Z or kill -STOP) and has done nothing for "
    "{silent}.",
    "warn_hung_idle": "The training process does nothing any more: for {silent} it has neither computed nor reported.",
    "warn_hung_endless": "The training process computes, but has not finished a step for {silent}.",
    "remedy_hung": "It is ended and taken up again from its last checkpoint. `btmctl jobs logs {job}` shows what it "
    "wrote last.",
    "warn_slow_forecast": "Steps take {step_s} each; at most {forecast_s} were foretold.",
    "warn_slow_usual": "Steps take {step_s} each; before they took {usual_s}.",
    "remedy_slow": "See whether other programs use the machine, and how warm it is: `btmctl hardware`",
    "warn_memory_device": "The GPU's memory is nearly full: {used} of {limit} are in use{foretold}.",
    "warn_memory_process": "The training process is near its own limit of memory: {used} of {limit}{foretold}.",
    "warn_memory_group": "The memory that this training may use is nearly full: {used} of {limit} (a control group's "
    "limit){foretold}.",
    "warn_memory_machine": "The machine's memory is nearly full: {free} of {limit} are left, the training uses "
    "{own}{foretold}.",
    "foretold": "; as it grows it is full in about {when}",
    "remedy_memory": "Close other programs. If it does run out, it goes on by itself from the last checkpoint in "
    "smaller parts. To begin with smaller ones: `{command}`",
    "warn_disk_filling": "The disk is filling up: {free} are free, about {needed} are needed for the next "
    "checkpoint{foretold}.",
    "remedy_disk_filling": "Make room. What btmd itself can do without goes with: `btmctl disk clean`",
    "warn_not_a_number": "At step {step} the numbers ran away: a {of} was not a number any more.",
    "of_loss": "loss",
    "of_gradient": "gradient",
    "of_held_out": "held-out loss",
    "remedy_not_a_number": "It goes back to its last good checkpoint by itself. If it comes again, a lower learning "
    "rate in full precision is the surest: `{command}`",
    "warn_loss_spiking": "The loss jumped to {loss:.2f} at step {step}; usually it is about {usual:.2f}. Most often "
    "such jumps pass.",
    "remedy_loss_spiking": "Look for rows that are out of the ordinary: `btmctl datasets check {dataset}`",
    "warn_loss_diverging": "The model gets worse and worse: its loss is {loss:.2f} and was {began:.2f} at the start.",
    "remedy_loss_diverging": "It is ended and taken up again from its last good checkpoint, more gently. To begin "
    "anew with a lower learning rate: `{command}`",
    "warn_learning_rate_high": "The loss has risen again to {loss:.2f}; its best was {best:.2f}. The learning rate is "
    "probably too high.",
    "remedy_learning_rate_high": "Try a lower learning rate: `{command}`",
    "warn_over_fitting": "It begins to learn by heart: on rows that it does not learn from the loss has risen to "
    "{held_out:.2f}; it was {best:.2f} after step {best_step}.",
    "remedy_over_fitting": "Its best state is kept. To end now with that one: `btmctl jobs stop {job}`",
    "warn_loss_flat": "Nothing has been learned so far: after {step} steps the loss has moved by {gain:.1f} %.",
    "remedy_loss_flat": "Check that the data says what you want taught (`btmctl datasets preview {dataset}`), or try "
    "a higher learning rate: `{command}`",
    "warn_learning_rate_low": "It learns very slowly: after {step} steps the loss has fallen by {gain:.1f} %. The "
    "learning rate is probably too low.",
    "remedy_learning_rate_low": "Try a higher learning rate: `{command}`",
    "warn_throttled_gpu": "The GPU slows itself down ({reasons}){details}.",
    "warn_throttled_cpu": "The processor slows itself down because it is too hot.",
    "at_temperature": " at {temperature} °C",
    "at_clock": ", to {percent:.0f} % of its clock",
    "remedy_throttled": "Give it air: clean the fans, or let the machine cool with `btmctl jobs pause {job}`.",
    "warn_gpu_shared": "Another program uses {others} of the GPU's memory; {free} are free.",
    "remedy_gpu_shared": "`btmctl hardware` names the programs on the GPU; close what is not needed.",
    "warn_cpu_shared": "Other programs take {percent:.0f} % of the processor, and the training is slower for it.",
    "remedy_cpu_shared": "Close what is not needed, or wait with this training until the machine is free: "
    "`btmctl jobs pause {job}`",
    "warn_data_starved": "The training waits more than it computes: the {of} is used at {percent:.0f} % of what was "
    "usual, since rows come too slowly from memory or disk.",
    "of_gpu": "GPU",
    "of_cpu": "processor",
    "remedy_data_starved": "See whether memory is swapped out or the disk is slow: `btmctl hardware`",
    "warn_suspended": "The machine slept, or nothing could run on it, for {slept}; the training goes on where it was.",
    "remedy_suspended": "See that it goes on: `btmctl jobs watch {job}`",
    "warn_waits_for_gpu": "It has waited for {waited} for a GPU that is not there.",
    "remedy_waits_for_gpu": "See what is there: `btmctl hardware`. It goes on by itself once the GPU is back.",
    "warn_waits_for_room": "It has waited for {waited} for room on the disk.",
    "remedy_waits_for_room": "Make room, and it goes on by itself. What btmd itself can do without goes with: `btmctl "
    "disk clean`",
    "warn_clock_forward": "The clock was set forward by {jump}; times before and after do not fit together.",
    "warn_clock_back": "The clock was set back by {jump}; times before and after do not fit together.",
    "remedy_clock_jumped": "The training itself is not touched. See that it goes on: `btmctl jobs watch {job}`",
}
