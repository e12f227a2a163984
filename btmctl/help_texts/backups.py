"""Errors about backups and about bringing earlier states back."""

from btmctl.help_texts.form import Help

HELP = {
    "backup_not_found": Help(
        "There is no such backup",
        "No backup has this id, this beginning of an id, or this description.",
        "It is mistyped, was let go by the rules of how long backups are kept, or lies in a folder not known here.",
        (
            "See all backups: `btmctl backup list`. The word last means the newest.",
            "See what is kept how long: `btmctl config list`, the lines that begin with backup.keep.",
            "From a folder that this daemon never wrote into the database can be rebuilt, with the daemon stopped:"
            " `btmctl recover --from PATH`.",
        ),
    ),
    "backup_folder_unusable": Help(
        "The backup folder cannot be used",
        "The folder for the backup is not there, cannot be written, or holds no backups. What was there is unchanged.",
        "The disk or stick is not attached, or the folder belongs to another user than the daemon's.",
        (
            "See whether it is there and whose it is: `ls -ld PATH`.",
            "Attach the disk or stick, then try again.",
            "Or use the daemon's own folder: `btmctl backup create`.",
        ),
    ),
    "backup_folder_full": Help(
        "The disk with the backups is full",
        "The new backup did not fit. The ones before stand as they were.",
        "Many backups, or backups with the contents of datasets, filled the disk.",
        (
            "Let old backups go: `btmctl backup prune`.",
            "Keep fewer of them from now on: `btmctl config set backup.keep_last=3`.",
            "See what else takes room: `btmctl disk`.",
            "Or put the backup on another disk: `btmctl backup create --to PATH`.",
        ),
    ),
    "wrong_key": Help(
        "This key does not open the backup",
        "The backup is encrypted, and what you gave is not the key, recovery key or passphrase that opens it.",
        "It belongs to another machine's backups, is an older one, or was mistyped.",
        (
            "Read the error's third line: it says with what the backups open.",
            "Try the recovery key that you wrote down: `btmctl recover --from PATH --recovery-key`.",
            "Or the passphrase: `btmctl recover --from PATH --passphrase`.",
            "Where the daemon still runs, see what opens its backups: `btmctl backup key list`.",
        ),
    ),
    "recovery_key_mistyped": Help(
        "The recovery key is mistyped",
        "A group of the recovery key has a letter that cannot be there. Nothing was opened or changed.",
        "Letters that look alike were mixed up, or a group was left out.",
        (
            "Compare the group that the error names with what you wrote down, letter by letter.",
            "Type it again: `btmctl backup key confirm-recovery`.",
            "If the note is wrong and the daemon still runs, make a new one: `btmctl backup key show-recovery`.",
        ),
    ),
    "part_missing": Help(
        "A part is missing",
        "A file that belongs to a backup or to what you asked for is not there any more.",
        "Files were deleted or moved by hand, a copy was not whole, or a dataset was erased on purpose.",
        (
            "See which backups are whole: `btmctl backup verify`.",
            "Put missing files back from another copy of the folder, then check again: `btmctl backup verify B`.",
            "Use another backup: `btmctl backup list`.",
            "Make a new one at once: `btmctl backup create`.",
        ),
    ),
    "log_moved_on": Help(
        "Something changed since the preview",
        "Between the preview that you saw and your yes, something else was changed. Nothing was brought back.",
        "Another window, another person or the daemon itself recorded something meanwhile.",
        (
            "Look at a new preview: `btmctl restore --at '2 hours ago' --dry-run`.",
            "Run it again from there; with --force it is done whatever changed meanwhile.",
        ),
    ),
    "restore_conflict": Help(
        "Both the present and the earlier state have a value",
        "You asked to merge, and some things have one value now and another one in the earlier state.",
        "They were changed after the moment that you bring back.",
        (
            "See which they are: `btmctl restore --at '2 hours ago' --mode merge --dry-run`.",
            "Keep what is there now: `btmctl restore --at '2 hours ago' --mode merge --prefer current`.",
            "Or take the earlier ones: `btmctl restore --at '2 hours ago' --mode merge --prefer restored`.",
        ),
    ),
    "moment_ambiguous": Help(
        "The clock showed this time more than once",
        "The time that you named was twice, so it does not say which state you mean.",
        "The clock was set back, by hand or at the end of summer time.",
        (
            "See the numbers of changes: `btmctl config history`, or all events: `btmctl events --since yesterday`.",
            "Name the event in place of the time: `btmctl restore --seq 41 --dry-run`.",
        ),
    ),
    "change_not_found": Help(
        "There is no such change",
        "The history has no change with this number.",
        "The number is mistyped, or belongs to something other than the settings or the preset you named.",
        (
            "See the changes of the settings: `btmctl config history`.",
            "Or those of a preset: `btmctl presets history KEY`.",
        ),
    ),
    "backup_needed": Help(
        "The database cannot be lifted without a backup of it",
        "A newer btmd has to change the database's form, makes a backup before that, and could not. The database was"
        " not touched.",
        "The disk is full, the backup folder cannot be written, or the keys of the backups are gone.",
        (
            "See how much room there is: `df -h`.",
            "Check folders and keys: `btmctl doctor`.",
            "Start it again: `btmctl daemon start`.",
            "If you have a copy of your own, go on without one: `btmd --migrate-without-backup`.",
        ),
    ),
    "jobs_under_way": Help(
        "Trainings are under way",
        "A reset waits for no training and ends none, so it was not begun.",
        "A training runs, waits in the queue, or asks you something.",
        (
            "See them: `btmctl jobs list`.",
            "End one and keep what it learned: `btmctl jobs stop J`. Or without keeping it: `btmctl jobs cancel J`.",
            "Then again: `btmctl reset --dry-run` shows what would go.",
        ),
    ),
}
