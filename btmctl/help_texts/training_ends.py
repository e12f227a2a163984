"""Why a training ended otherwise than it should: the reasons in what ``btmctl jobs show J --json`` says."""

from btmctl.help_texts.form import Help

HELP = {
    "out_of_memory": Help(
        "The memory was not enough",
        "The training needed more memory than there was, and smaller steps did not help enough.",
        "Rows are long, the model is large, or another program took memory meanwhile.",
        (
            "See what was tried already: `btmctl jobs show J`.",
            "Close other programs, then go on from the last checkpoint: `btmctl jobs resume J`.",
            "Allow more changes: `btmctl train MODEL DATASET --allow shorter,lora,qlora`.",
            "Or take a smaller model: `btmctl models recommend --dataset DATASET`.",
        ),
    ),
    "not_a_number": Help(
        "The training computed what is no number",
        "The numbers grew beyond all bounds, and going back to a good checkpoint with smaller steps did not help.",
        "Steps that are too large, half precision, or rows with odd contents.",
        (
            "See from which step on: `btmctl jobs plot J`.",
            "Look for odd rows: `btmctl datasets check DATASET`.",
            "Learn in smaller steps, with full precision:"
            " `btmctl train MODEL DATASET --set learning_rate=1e-5 --set precision=fp32`.",
        ),
    ),
    "data": Help(
        "The training's data could not be used",
        "The rows are not those that the training was begun with, or none is left to train on.",
        "The dataset was erased or its consent taken back, or all of its rows had to be left out.",
        (
            "See what was found: `btmctl jobs show J`.",
            "Check the rows: `btmctl datasets check DATASET --model MODEL`.",
            "Train with the dataset as it is now: `btmctl train MODEL DATASET`.",
        ),
    ),
    "model": Help(
        "The training's model could not be used",
        "The model could not be loaded or prepared.",
        "Its files are damaged or were moved, or it is of a kind that the installed programs do not know.",
        (
            "Check its files: `btmctl models verify M`.",
            "See what was said: `btmctl jobs logs J`.",
            "Add it anew: `btmctl models add PATH --name NAME`.",
        ),
    ),
    "device": Help(
        "The computing device reported an error",
        "The GPU stopped in the middle of a computation, or is not there any more.",
        "Its driver failed or was updated, it got too hot, or another program used it up.",
        (
            "See whether it answers: `nvidia-smi`, and what btmd finds: `btmctl hardware`.",
            "Restart the machine if it does not.",
            "Go on from the last checkpoint: `btmctl jobs resume J`.",
            "Or train on the processor: `btmctl train MODEL DATASET --set device=cpu`.",
        ),
    ),
    "crash": Help(
        "The trainer stopped on an unexpected error",
        "The process that trains ended with an error that nobody foresaw. The last checkpoint is kept.",
        "A fault in btmd or in a library, or in the machine's memory.",
        (
            "Read its last lines: `btmctl jobs logs J`.",
            "Go on from the last checkpoint: `btmctl jobs resume J`.",
            "If it happens again, report it with: `btmctl doctor --bundle`.",
        ),
    ),
    "crash_limit": Help(
        "The trainer crashed too often",
        "The training was begun again several times and crashed each time, so it was given up. The checkpoint is kept.",
        "The same cause each time: a library, the driver, or the machine's memory.",
        (
            "See what was tried: `btmctl jobs show J`.",
            "Read its last lines: `btmctl jobs logs J`.",
            "When the cause is gone: `btmctl jobs resume J`.",
            "To let it try more often: `btmctl config set jobs.crash_resumes=5`.",
        ),
    ),
    "killed": Help(
        "The trainer was ended from outside",
        "Somebody or the system ended the process that trains. It goes on by itself from its last checkpoint, or can.",
        "A person ended it, or the machine was short of memory, or you logged out without lingering.",
        (
            "See what happened: `btmctl jobs show J`.",
            "Go on: `btmctl jobs resume J`.",
            "So that trainings outlive your logout: `loginctl enable-linger`.",
        ),
    ),
    "hung": Help(
        "The training stood still",
        "No step was done for a very long time, so the process was ended. The last checkpoint is kept.",
        "A disk or a GPU that does not answer, or a machine that is much too busy.",
        (
            "See where it stood: `btmctl jobs show J`.",
            "See who uses the machine: `btmctl hardware`.",
            "Go on from the last checkpoint: `btmctl jobs resume J`.",
        ),
    ),
}
