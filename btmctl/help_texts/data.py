"""Errors about datasets as a whole: what they hold, and bringing them to the daemon."""

from btmctl.help_texts.form import Help

HELP = {
    "dataset_not_found": Help(
        "There is no such dataset",
        "The daemon has no dataset of this name or id, or it is not yours and was not shared with you.",
        "It is mistyped, was removed, or was never added.",
        (
            "See those there are: `btmctl datasets list`.",
            "Add a file or a folder: `btmctl datasets add PATH --consent --purpose 'our help desk'`.",
            "If it belongs to somebody else, ask them: they type `btmctl datasets share D USER`.",
        ),
    ),
    "dataset_refused": Help(
        "The dataset cannot be used",
        "The file or folder was read, and something in it keeps it from being trained on. Nothing was added.",
        "The second line of the error says what; often it is one place in the file, and its line is named.",
        (
            "Read the second and third line of the error: the third is often a whole command that works.",
            "Look at the place that it names, mend it, and add the file again: `btmctl datasets add PATH`.",
            "See which kinds of files there are, with examples: `btmctl datasets add --help`.",
        ),
    ),
    "dataset_empty": Help(
        "The dataset holds nothing to train on",
        "No row is left that a model could learn from.",
        "The file is empty, has only a heading, or all of its rows are broken or were left out.",
        (
            "Look into the file: `head PATH`.",
            "If the first line of a table is data and no heading, say so: `btmctl datasets add PATH --no-header`.",
            "Say which column is what: `btmctl datasets add PATH --map prompt=Question --map completion=Answer`.",
        ),
    ),
    "unknown_layout": Help(
        "The dataset's columns are not understood",
        "The table could be read, but not which column is the question and which the answer.",
        "The columns have names that say nothing of it, two have the same name, or the first line is no heading.",
        (
            "If the third line of the error is a command, that is the likeliest meaning: type it as it is.",
            "Name the columns: `btmctl datasets add PATH --map prompt=Question --map completion=Answer`.",
            "For plain text in a column: `btmctl datasets add PATH --map text=Text`.",
            "Without a heading: `btmctl datasets add PATH --no-header --map 'prompt=column 1'"
            " --map 'completion=column 2'`.",
        ),
    ),
    "mixed_folder": Help(
        "The folder holds more than one kind of data",
        "There are tables and documents in it, or tables of different kinds, and it is not clear which to learn from.",
        "A read-me, or a file of another purpose, lies beside the data.",
        (
            "Take the tables alone: `btmctl datasets add PATH --only tables`.",
            "Or the documents alone: `btmctl datasets add PATH --only documents`.",
            "Or put the two kinds into two folders, and add each.",
        ),
    ),
    "rated_answers": Help(
        "Answers rated one by one cannot be learned from",
        "A column says of each answer whether it is good. Training on all of them would teach the bad ones as well.",
        "The data was made to judge answers; a training needs good answers, or pairs of a better and a worse one.",
        (
            "Keep only the rows with good answers in the file, and leave the column out:"
            " `btmctl datasets add PATH --map drop=rating`.",
            "Or bring a better and a worse answer to each question together:"
            " `btmctl datasets add PATH --map prompt=Question --map chosen=Better --map rejected=Worse`.",
        ),
    ),
    "preference_data": Help(
        "Preference data needs preference tuning",
        "Each row has a better and a worse answer, and the preset that was chosen learns from one answer only.",
        "The preset does not fit to this kind of data.",
        (
            "Train with the preset for it: `btmctl train MODEL DATASET --preset preference`.",
            "Or learn from the better answers alone: `btmctl datasets add PATH --name NAME --map prompt=prompt"
            " --map completion=chosen`.",
        ),
    ),
    "template_mismatch": Help(
        "The model's chat template and this conversation do not fit together",
        "Each chat model has its own way of writing a conversation down, and it cannot write down this one.",
        "The conversation begins with an answer, somebody speaks twice in a row, or the model takes no system message.",
        (
            "See how the rows would be written: `btmctl datasets preview D --tokens --model M`.",
            "See how many rows it concerns: `btmctl datasets check D --model M`.",
            "Leave those rows out: `btmctl datasets clean D --drop untemplated --model M`.",
            "Or take another model: `btmctl models recommend --dataset D`.",
        ),
    ),
    "nothing_to_learn": Help(
        "No token of this dataset would be learned",
        "With these settings, no row has an answer that the model would learn from.",
        "Answers are missing, all rows are longer than the longest that is allowed, or the columns are mixed up.",
        (
            "See what is wrong with the rows: `btmctl datasets check D --model M`.",
            "See what the model would see: `btmctl datasets preview D --tokens --model M`.",
            "Allow longer rows: `btmctl train MODEL DATASET --set max_length=2048`.",
            "If the columns are mixed up: `btmctl datasets update D --map prompt=Question --map completion=Answer`.",
        ),
    ),
    "personal_data_found": Help(
        "The dataset holds personal data",
        "Names, addresses, numbers or the like were found. A model learns them and may tell them to anybody.",
        "Real letters and tickets hold such data. What is found by a program is never all of it.",
        (
            "See what would be replaced, with examples: `btmctl datasets anonymise D --preview`.",
            "Make a version without it: `btmctl datasets anonymise D`, then train again.",
            "If you may and want to train on it as it is: `btmctl train MODEL DATASET --accept-personal-data`."
            " This is recorded.",
        ),
    ),
    "upload_mismatch": Help(
        "The upload does not match its hash",
        "What arrived at the daemon is not what was announced, so it was not kept.",
        "The file was changed while it was being sent.",
        ("Wait until no program writes to the file, then add it again: `btmctl datasets add PATH`.",),
    ),
    "upload_offset": Help(
        "The upload goes on from another byte",
        "A program went on with an upload at another place than where it had stopped.",
        "A part of it had not arrived, or another program sends the same file. btmctl itself puts this right.",
        (
            "Run the same command again; it asks the daemon how much is there: `btmctl datasets add PATH`.",
            "In a program of your own, ask with HEAD for upload-offset first, and go on from there.",
        ),
    ),
    "upload_under_way": Help(
        "This content is being uploaded already",
        "The same file is being sent to the daemon at this moment, by you in another window or by somebody else.",
        "The command was started twice.",
        (
            "Wait until the other one is done, then look: `btmctl datasets list`.",
            "If there is none, try again in a minute: `btmctl datasets add PATH`.",
        ),
    ),
    "hash_mismatch": Help(
        "A file did not arrive as the hub describes it",
        "A file that was fetched is not the one that the hub promises, twice in a row. It was not kept.",
        "Something on the way changed it: a proxy, a broken connection, or a damaged copy on the hub.",
        (
            "Try again later, or over another connection: `btmctl models pull ORG/NAME`.",
            "If HF_ENDPOINT is set, check that it names a hub that you trust: `printenv HF_ENDPOINT`.",
        ),
    ),
}
