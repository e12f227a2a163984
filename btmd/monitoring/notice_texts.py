"""What a person is told without having asked, about sleep and room; part of the catalogue in texts."""

NOTICE_TEXTS: dict[str, str] = {
    "notice_finished": "The training {name} is done",
    "notice_failed": "The training {name} has failed",
    "notice_ended": "The training {name} was ended",
    "notice_attention": "The training {name} has a question",
    "notice_warning": "The training {name} needs a look",
    "notice_progress": "The training {name} is at {percent} %",
    "notice_consent": "The consent to use its data was withdrawn; its checkpoint is kept.",
    "notice_answer": "{question} Answer with `btmctl jobs answer {job} yes` or `no`.",
    "notice_step": "It has done step {step} of {total}.",
    "notice_several": "{count} things about your trainings",
    "notice_more": "and {count} more",
    "sleep_refused": "The machine may go to sleep while a training runs: logind refused to keep it awake ({problem}). "
    "`btmctl help sleep_refused` has the polkit rule that allows it.",
    "sleep_idle_only": "The machine does not go to sleep by itself while a training runs, but a closed lid or a person "
    "can still send it to sleep: logind refused more ({problem}). `btmctl help sleep_refused` has the polkit rule "
    "that allows it.",
    "budget_exceeded": "The trainings take {taken}, and disk.budget_gb is {budget}; what is left is needed, or for you "
    "to decide on. `btmctl disk` shows what takes the room.",
    "sleep_lost_gpu": "After the machine had slept, {device} was not there any more.",
}
