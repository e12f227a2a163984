"""Errors about presets, settings and their files."""

from btmctl.help_texts.form import Help

HELP = {
    "unknown_key": Help(
        "There is no such setting",
        "No setting (or value of a training) has this name. Nothing was changed.",
        "It is mistyped, or belongs to another version of btmd.",
        (
            "See all settings: `btmctl config list`.",
            "See the values of a training: `btmctl plan MODEL DATASET`.",
        ),
    ),
    "unknown_preset": Help(
        "There is no such preset",
        "No preset has this key or name.",
        "It is mistyped, was deleted, or is not recommended for this machine and so not in the short list.",
        (
            "See all of them: `btmctl presets list --all`.",
            "Leave --preset out, then one is chosen that fits: `btmctl plan MODEL DATASET`.",
        ),
    ),
    "preset_exists": Help(
        "There is such a preset already",
        "A preset with this key is there, and it is not overwritten.",
        "It was made before, or comes with btmd.",
        (
            "Look at it: `btmctl presets show KEY`.",
            "Change it: `btmctl presets edit KEY`.",
            "Or choose another key: `btmctl presets create NEW --from KEY`.",
        ),
    ),
    "preset_read_only": Help(
        "This preset comes with btmd",
        "The presets that come with btmd stay as they are.",
        "They have to be the same everywhere; your own can be changed at will.",
        (
            "Make one of your own from it: `btmctl presets create NEW --from KEY --set num_epochs=3`.",
            "Or change single values of one training: `btmctl train MODEL DATASET --set num_epochs=3`.",
        ),
    ),
    "preset_refused": Help(
        "The preset cannot be used",
        "A preset's file has a mistake. The file and, where it is known, the line are named.",
        "A key is mistyped, a value is out of its range, or the file is not written as TOML.",
        (
            "Look at a right one: `btmctl presets export quick_test`.",
            "Mend the line that the error names, then: `btmctl presets import PATH`.",
        ),
    ),
    "name_taken": Help(
        "Another preset is called so",
        "Two presets may not have the same displayed name.",
        "A copy was made without a name of its own.",
        (
            "See the names: `btmctl presets list --all`.",
            "Give this one another: `btmctl presets create NEW --from KEY --set name='My letters'`.",
        ),
    ),
    "file_wrong": Help(
        "The file cannot be used",
        "A file that you edited has a mistake, so it was not taken. What was valid before goes on.",
        "A line is not written as TOML (name = value), a name is mistyped, or a value is out of its range.",
        (
            "Mend the line that the error names; the daemon reads the file again by itself.",
            "See which values are valid: `btmctl config schema`.",
            "Or change it without the file: `btmctl config set training.seed=7`.",
        ),
    ),
    "settings_file_wrong": Help(
        "The settings file cannot be used",
        "The file settings.toml has a mistake, so it was not taken. The settings of before go on.",
        "A line is not written as TOML (name = value), a name is mistyped, or a value is out of its range.",
        (
            "See which line it is: `btmctl status`.",
            "Mend it; the daemon reads the file again by itself. `btmctl config edit` shows mistakes at once.",
            "See names, ranges and defaults: `btmctl config schema`.",
        ),
    ),
    "changed_since": Help(
        "It was changed again since",
        "What you want to change or take back was changed once more meanwhile, so it was left as it is.",
        "Another window or another person changed it, or you undo a change on which a later one stands.",
        (
            "See what came between: `btmctl config history`, or for a preset `btmctl presets history KEY`.",
            "If that may go too: `btmctl config undo 41 --force` (with the number from the history).",
        ),
    ),
    "version_conflict": Help(
        "It was changed in the meantime",
        "Two changes of the same thing came at the same moment. Yours was not carried out; nothing is lost.",
        "Another window, another person, or the daemon itself was a little faster.",
        (
            "Look at how it is now: `btmctl jobs show J` or `btmctl config list`.",
            "Then do it again if it is still wanted.",
        ),
    ),
    "conflict": Help(
        "Not possible in the present state",
        "The thing exists, but what you want does not fit to how it is just now.",
        "For instance: a training that is not paused cannot be resumed.",
        (
            "Read the second line of the error: it says how things are.",
            "Look at the thing: `btmctl jobs show J`, `btmctl datasets show D` or `btmctl models show M`.",
            "See what was done with it: `btmctl audit log`.",
        ),
    ),
    "refused": Help(
        "Not possible as things are",
        "btmctl itself refuses, since what you want does not fit to what is there.",
        "The second line of the error says why.",
        (
            "Read the second and third line of the error.",
            "See how things are: `btmctl status`.",
        ),
    ),
}
