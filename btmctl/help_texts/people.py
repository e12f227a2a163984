"""Errors about who may do what."""

from btmctl.help_texts.form import Help

HELP = {
    "not_permitted": Help(
        "Not permitted",
        "The daemon knows you, and your role does not allow this; or the thing belongs to somebody else.",
        "A viewer may only look, a trainer may train with what is theirs or was shared with them, and only an admin"
        " changes settings and roles. What you were refused is recorded.",
        (
            "See what your role is: `btmctl access list`.",
            "Ask whoever runs the daemon for a role: they type `btmctl access grant USER trainer`.",
            "To use a thing of somebody else's, ask its owner: they type `btmctl datasets share D USER`.",
            "Or work with a daemon of your own, which is asked before the machine's: `btmctl daemon install --user`.",
        ),
    ),
    "path_not_opened": Help(
        "The daemon opens no path of another user",
        "A program asked the daemon to open a file of yours by its path. The daemon opens only its own user's files.",
        "It would otherwise read, with its own rights, what you or others may not. btmctl opens the file with your"
        " rights and sends the bytes.",
        (
            "Let btmctl bring it: `btmctl datasets add PATH` or `btmctl models add PATH`.",
            "In a program of your own, send the bytes to /contents first, and name their hash.",
            "A model's folder that should be used where it lies: an admin adds it, from a place the daemon may read.",
        ),
    ),
    "access_not_found": Help(
        "Nothing was granted to them",
        "This user or group has no role here, so there is none to take away.",
        "The name is mistyped, or the role was given to a group that they are in.",
        (
            "See who has which role: `btmctl access list`.",
            "A group is written with @ before its name: `btmctl access revoke @GROUP`.",
        ),
    ),
    "account_not_found": Help(
        "There is no such user or group",
        "This machine knows no user or group of this name.",
        "The name is mistyped, or the account lives on another machine.",
        (
            "Ask the machine: `id USER` for a person, `getent group GROUP` for a group.",
            "Write a group with @ before its name: `btmctl access grant @GROUP viewer`.",
        ),
    ),
    "not_shared": Help(
        "It is not shared with them",
        "You want to end a sharing that there is not.",
        "It was ended before, was shared with their group in place of them, or the name is mistyped.",
        (
            "Look at the thing: `btmctl datasets show D`, `btmctl models show M` or `btmctl jobs show J`.",
            "End the sharing with a group, if that was it: `btmctl datasets share D @GROUP --stop`.",
        ),
    ),
    "over_limit": Help(
        "More than this user may have",
        "It would go beyond a limit that an admin set for you (disk room, priority), or 200 trainings of yours wait.",
        "Finished trainings and old datasets count as long as they are on the disk; trainings that wait count already.",
        (
            "See what takes room: `btmctl disk`.",
            "Delete trainings that you no longer need: `btmctl jobs delete J`.",
            "Remove datasets that you no longer need: `btmctl datasets remove D`.",
            "Or ask an admin for more: they type `btmctl access limit USER disk_gb=200`.",
        ),
    ),
    "consent_missing": Help(
        "Nobody has allowed the use of this data",
        "A dataset is used only for what a person has allowed, and nobody has allowed this yet.",
        "The dataset was added without consent, the consent was taken back, or it does not cover this use: training,"
        " taking the result away, and keeping a copy in a backup are allowed one by one.",
        (
            "See what is allowed with each dataset: `btmctl consent list`.",
            "If you may decide about the data, allow it: `btmctl consent grant D --purpose 'our help desk'`.",
            "To take a trained model away too: `btmctl consent grant D --scope train,export`.",
            "Then run the first command again. You can take it back at any time: `btmctl consent revoke D`.",
        ),
    ),
}
