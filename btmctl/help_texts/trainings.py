"""Errors about trainings and what they made."""

from btmctl.help_texts.form import Help

HELP = {
    "job_not_found": Help(
        "There is no such job",
        "The daemon has no training of this name or id.",
        "It is mistyped, was deleted, or runs with another daemon.",
        (
            "See all trainings: `btmctl jobs list`. The word last means the newest.",
            "See which daemon answers: `btmctl status`.",
        ),
    ),
    "job_ended": Help(
        "The job has already ended",
        "What you want is possible only with a training that still runs.",
        "It was done, given up or cancelled meanwhile.",
        (
            "See how it ended: `btmctl jobs result J`.",
            "If it failed or was paused and has a checkpoint: `btmctl jobs resume J`.",
            "To train once more with the same values: `btmctl jobs rerun J`.",
        ),
    ),
    "no_result_yet": Help(
        "The job has not ended yet",
        "There is a result only when a training has ended.",
        "It still runs, waits in the queue, or waits for an answer of yours.",
        (
            "See how far it is: `btmctl jobs show J`.",
            "Wait for the end: `btmctl jobs watch J`.",
            "End it now and keep the best that it learned: `btmctl jobs stop J`.",
        ),
    ),
    "job_needed": Help(
        "Something needs the job's files",
        "The training was not deleted, since another one goes on from it or somebody is using it.",
        "A later training began from its adapter, a chat is open, or an export is being written.",
        (
            "Read the second line of the error: it names what needs it.",
            "End that first, then again: `btmctl jobs delete J`.",
            "Or delete it all the same: `btmctl jobs delete J --force`.",
        ),
    ),
    "no_adapter": Help(
        "The job has no adapter to go on from",
        "Going on from a training takes its adapter (a small file with what was learned), and this one has none.",
        "It trained the whole model, did not end well, or its files were deleted.",
        (
            "See what it made: `btmctl jobs result J`.",
            "Of a whole model, write it out and add it as a model: `btmctl jobs export J --format merged --out PATH`,"
            " then `btmctl models add PATH`.",
            "Or begin from the model itself: `btmctl train MODEL DATASET`.",
        ),
    ),
    "not_exportable": Help(
        "The job has nothing that could be taken away",
        "The training has no result in the form that you asked for.",
        "It has not ended, has failed without a checkpoint, or trained the whole model, of which there is no adapter.",
        (
            "See how it stands: `btmctl jobs show J`.",
            "If it runs, end it and keep what it learned: `btmctl jobs stop J`.",
            "Of a training of the whole model: `btmctl jobs export J --format merged`.",
        ),
    ),
    "export_differs": Help(
        "The export does not answer like the model it came from",
        "What was written was read again and compared with the trained model, and differs too much. It was not kept.",
        "The form with coarser numbers (q8_0) loses too much with this model, or its kind is written wrongly.",
        (
            "Write finer numbers: `btmctl jobs export J --format gguf --quant f16`.",
            "Or take the adapter as it is: `btmctl jobs export J --format adapter`.",
            "Report it with the model's name and with: `btmctl doctor --bundle`.",
        ),
    ),
    "not_repeatable": Help(
        "The training cannot be repeated as it was",
        "Something that it was made of is no longer as it was then.",
        "The model's files, the dataset's version, or the programs that compute are others now.",
        (
            "Read the second line of the error: it names all that has changed.",
            "Train with what is there now: the third line of the error is the command for it.",
            "Compare the two afterwards: `btmctl jobs compare J J`.",
        ),
    ),
    "chat": Help(
        "The model did not answer",
        "The process that answers for the model ended or stumbled. The trained model is not changed by it.",
        "Memory was short, or the model's files were moved.",
        (
            "Ask again: `btmctl chat J`.",
            "See how much memory is free: `btmctl hardware`.",
            "See whether the training's result is whole: `btmctl jobs show J`.",
            "Read what the daemon says: `journalctl --user -u btmd -n 50`, or where it is no service:"
            " `tail -n 50 ~/.local/state/btmd/daemon.log`.",
        ),
    ),
    "quickstart_failed": Help(
        "The quickstart's training did not end well",
        "The demo training failed or was cancelled. Nothing else was touched.",
        "Memory or disk was short, or somebody cancelled it.",
        (
            "See why: `btmctl jobs show last`.",
            "Check the installation: `btmctl doctor`.",
            "Try it again: `btmctl quickstart`.",
        ),
    ),
}
