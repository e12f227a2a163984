"""Errors about single files of data."""

from btmctl.help_texts.form import Help

HELP = {
    "dataset_binary": Help(
        "The dataset is not text",
        "The file holds no text but something else, such as a picture, a program or a spreadsheet.",
        "It has the wrong ending, or is an Excel or other office file that has to be saved in another form first.",
        (
            "See what it is: `file PATH`.",
            "Save a spreadsheet as CSV in the program that it came from, then: `btmctl datasets add PATH`.",
            "See what can be read: `btmctl datasets add --help`.",
        ),
    ),
    "dataset_truncated": Help(
        "The dataset file is cut off",
        "The file ends in the middle of something, so a part of it is missing.",
        "A download or a copy ended too early, or a program is still writing to it.",
        (
            "Compare its size with the original's: `ls -l PATH`.",
            "Fetch or copy it again, then: `btmctl datasets add PATH`.",
        ),
    ),
    "dataset_damaged": Help(
        "The dataset file is damaged",
        "The file is of a kind that can be read, but its inside is broken.",
        "A copy or download went wrong, or a program wrote it wrongly.",
        (
            "Open it in the program that it came from. If that cannot read it either, take an older copy.",
            "If it can, save it anew there, then: `btmctl datasets add PATH`.",
        ),
    ),
    "dataset_encoding": Help(
        "The dataset's characters cannot be read",
        "It is not clear how letters such as ä, é or я are written in the file.",
        "The file is older, or comes from a program that does not write UTF-8.",
        (
            "If the third line of the error is a command, type it: it names the likeliest encoding.",
            "Or name it yourself: `btmctl datasets add PATH --encoding windows-1250`.",
            "Then look whether the letters are right: `btmctl datasets preview D`.",
            "Or save the file as UTF-8 in the program that it came from.",
        ),
    ),
    "dataset_encrypted": Help(
        "The dataset file is protected by a password",
        "The file is encrypted. btmd does not ask for passwords of documents.",
        "Its author protected it.",
        (
            "Open it in its own program with the password, and save a copy without one.",
            "Add that copy: `btmctl datasets add PATH`, and delete it afterwards; the daemon keeps its own.",
        ),
    ),
    "dataset_scanned": Help(
        "The document holds pictures of text, not text",
        "The pages were scanned or photographed. There are no letters in the file that could be learned.",
        "A scanner makes pictures; a text recognition has to read them first.",
        (
            "Let a text recognition make a copy with text in it: `ocrmypdf PATH NEW.pdf`.",
            "Read a page of the copy to see whether it is right, then: `btmctl datasets add NEW.pdf`.",
        ),
    ),
    "dataset_unsafe": Help(
        "The dataset file is built so that reading it would do harm",
        "The file would fill memory or disk, or reach for other files, if it were read. It was not read.",
        "It is built to attack programs, or, seldom, a real document of an unusual form.",
        (
            "If you do not know where it comes from, delete it.",
            "If it is a real document, open it in an office program and save it anew, or as plain text.",
            "Then add that copy: `btmctl datasets add PATH`.",
        ),
    ),
}
