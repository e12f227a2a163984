"""Errors about what was typed."""

from btmctl.help_texts.form import Help

HELP = {
    "usage": Help(
        "This command cannot be understood",
        "btmctl does not know a word or an option of the command, or something is missing in it.",
        "Mostly a slip of the pen, an option that belongs to another command, or a name with a blank in it that has no"
        " quotation marks around it.",
        (
            "Read the second line of the error: it names the word that is not understood.",
            "Look at the options and the examples of the command: `btmctl jobs --help` (with the first word of yours).",
            "Put names and texts with blanks between quotation marks: `btmctl jobs show 'my first training'`.",
            "See all commands there are: `btmctl help`.",
        ),
    ),
    "invalid_value": Help(
        "A value cannot be used",
        "A number, a time or a word is not one of those that are possible in this place. Nothing was changed.",
        "It is too large or too small, is no number where one is needed, or is a word of another list.",
        (
            "Read the second line of the error: it says what is allowed.",
            "For a setting, see its range and its default: `btmctl config schema`.",
            "For a value of a training, see what would be used and why: `btmctl plan MODEL DATASET`.",
        ),
    ),
    "bad_request": Help(
        "The request cannot be read",
        "What reached the daemon is not what it expects: a part is missing, or has another form.",
        "A program of your own asks wrongly, or btmctl and the daemon are of different versions.",
        (
            "Compare the two versions: `btmctl version`.",
            "Where they differ, upgrade the older one: `{upgrade}`; then `btmctl daemon restart`.",
            "With a program of your own, compare its request with the document at /openapi.json on its socket.",
        ),
    ),
    "too_large": Help(
        "The request is too large",
        "More was sent at once than the daemon takes. Nothing of it was kept.",
        "A file is larger than the setting uploads.max_gb allows, or a program sends too long a document.",
        (
            "See how large a file may be: `btmctl config get uploads.max_gb`.",
            "Allow more, if the disk has room for it: `btmctl config set uploads.max_gb=50`.",
            "Or split the file, and add the folder with its parts: `btmctl datasets add PATH`.",
        ),
    ),
    "too_many": Help(
        "Too much at once",
        "The daemon was asked more often, changed more, or by more connections at once, than it takes from one user.",
        "A program asks again and again without a pause, or many windows follow the events at the same time.",
        (
            "Wait a minute and try again.",
            "Close windows that follow a training or the events: `btmctl jobs watch J` in one of them is enough.",
            "In a program of your own, follow the stream of events in place of asking: `btmctl events --follow`.",
        ),
    ),
    "request_timeout": Help(
        "The request did not arrive in time",
        "A request began and did not arrive whole within the time that the daemon waits for one.",
        "A program of your own stopped in the middle of sending, or the machine was suspended meanwhile.",
        (
            "Run the same command again; a large file goes on where it stopped: `btmctl datasets add PATH`.",
            "In a program of your own, send a request at once, when all of it is there.",
        ),
    ),
    "idempotency_mismatch": Help(
        "This key was used for another request",
        "A program sent two different requests under one Idempotency-Key, so the second was not carried out.",
        "The key says that both are the same request; it may be used again only to repeat the very same one.",
        (
            "In the program, make a new key for each new request, and repeat a key only with the same content.",
            "See what the first request did: `btmctl audit log`.",
        ),
    ),
    "method_not_allowed": Help(
        "Not possible here",
        "This address of the daemon exists, but not with this kind of request (GET, POST, PATCH, DELETE).",
        "A program of your own uses the wrong kind, or is made for another version of btmd.",
        (
            "Compare the versions: `btmctl version`.",
            "Look the operation up in the document at /openapi.json on the daemon's socket.",
        ),
    ),
    "not_found": Help(
        "There is no such thing",
        "The daemon knows nothing of this name or number.",
        "It is mistyped, was removed, belongs to another daemon, or the daemon is older than the command.",
        (
            "See what there is: `btmctl jobs list`, `btmctl datasets list` or `btmctl models list`.",
            "See which daemon answers: `btmctl status` (there may be your own, the system's and the quickstart's).",
            "Compare the versions: `btmctl version`.",
        ),
    ),
    "ambiguous": Help(
        "More than one thing is called so",
        "The name or the beginning of an id that you gave fits several things, and none is chosen by guessing.",
        "Two things have the same name, or too few letters of the id were given.",
        (
            "See the ids: `btmctl jobs list`, `btmctl datasets list` or `btmctl models list`.",
            "Give more letters of the id, or all of it; the word last always means the newest.",
        ),
    ),
    "file_not_found": Help(
        "The file is not there",
        "There is no file or folder at this path, or it may not be looked at.",
        "The path is mistyped, is relative to another folder, or is on a disk that is not attached.",
        (
            "See what is there: `ls -l PATH`.",
            "Give the whole path, from / on, and put it between quotation marks if it has blanks in it.",
            "For a dataset that was moved, say where it is now: `btmctl datasets update D PATH`.",
        ),
    ),
    "needs_answer": Help(
        "This needs an answer, and there is no terminal to ask at",
        "The command would ask you something first, and nobody can be asked: it runs in a script or behind a pipe.",
        "btmctl never guesses an answer. Only what you permit beforehand is done without asking.",
        (
            "Run the command in a terminal of your own and answer there.",
            "In a script, give the option that the error's third line names; --yes answers every question with yes.",
            "For secrets, such as a recovery key, send the text on standard input, one line.",
        ),
    ),
    "declined": Help(
        "Nothing was changed",
        "You answered no, so nothing was done. Everything is as it was before.",
        "The question was not answered with y or yes; just pressing Enter counts as no.",
        (
            "If it was meant to be done, run the same command again and answer y.",
            "Where a file stands in the way, choose another place with --out.",
        ),
    ),
    "internal_error": Help(
        "Something went wrong",
        "btmctl or the daemon met a mistake of its own. This request changed nothing; trainings go on.",
        "This is a fault in the program, not in what you did.",
        (
            "Try it once more.",
            "Check the installation: `btmctl doctor`.",
            "See where it happens: run the same command again with --debug at its end.",
            "Read what the daemon says: `journalctl --user -u btmd -n 50`, or where it is no service:"
            " `tail -n 50 ~/.local/state/btmd/daemon.log`.",
            "Report it, with the file that this writes (it holds no data of yours): `btmctl doctor --bundle`.",
        ),
    ),
    "cannot_write": Help(
        "A file cannot be written",
        "btmctl may not write a file where it wants to put what it fetches.",
        "The folder belongs to somebody else, is read-only, or its disk is.",
        (
            "See who may write there: `ls -ld PATH`.",
            "Choose a folder of your own: `btmctl models pull ORG/NAME --to ~/models/name`.",
        ),
    ),
    "not_written": Help(
        "The files could not be written",
        "What was made of a training could not be put into the folder that you named. Nothing was left behind.",
        "The disk is full or was taken away, or the folder may not be written.",
        (
            "See how much room there is: `df -h PATH`.",
            "Write it somewhere else: `btmctl jobs export J --format adapter --out PATH`.",
        ),
    ),
}
