"""Errors about damaged or changed files of the daemon."""

from btmctl.help_texts.form import Help

HELP = {
    "damaged": Help(
        "Damaged data was found",
        "A file of the daemon, or of a backup, cannot be read as it was written. It is not used.",
        "A disk with errors, a power failure on a disk that lies about what it wrote, or a program that changed it.",
        (
            "See what is damaged: `btmctl doctor`, then `btmctl audit verify`.",
            "See which backups are whole: `btmctl backup verify`.",
            "Copy the backup folder to another disk before anything else.",
            "With the daemon stopped, rebuild the database: `btmctl recover --from ~/.local/state/btmd/backups`.",
            "Check the disk itself; one that damages files does it again.",
        ),
    ),
    "database_missing": Help(
        "The database is gone",
        "The daemon's database is not there, though there are backups of it. The daemon did not begin a new one in its"
        " place.",
        "It was deleted or moved, or the disk that holds it is not attached.",
        (
            "If it is on a disk that is not attached, attach it and start the daemon again.",
            "Bring it back from a backup: `btmctl recover --from ~/.local/state/btmd/backups`.",
            "To begin with nothing, move the folder backups away, then `btmctl daemon start`.",
        ),
    ),
    "database_whole": Help(
        "There is a database, and it is whole",
        "You asked to rebuild the database from a backup, though the one there is not damaged. All that came after the"
        " backup would be gone, so it was not done.",
        "To go back to an earlier state, no rebuilding is needed.",
        (
            "Go back without losing anything: `btmctl restore --at 'yesterday 18:00' --dry-run`.",
            "To rebuild it all the same: `btmctl recover --from PATH --yes`. What stands there is kept aside.",
        ),
    ),
    "tampered": Help(
        "Somebody changed the data",
        "The log, a backup or an answer is not the one that was written: its seal does not fit its content.",
        "Somebody or some program changed the file on purpose or by mistake. A disk error looks otherwise.",
        (
            "Find the first place that is wrong, and keep what it prints: `btmctl audit verify`.",
            "See which backups are untouched: `btmctl backup verify`.",
            "See who did what: `btmctl audit log`.",
            "Keep a copy of the state folder as it is, for whoever looks into it.",
            "With the daemon stopped, rebuild it from a backup that is whole: `btmctl recover --from PATH`.",
        ),
    ),
    "view_wrong": Help(
        "A view does not show what the log says",
        "One of the tables that the daemon makes from its log is damaged. The log itself holds everything, and the"
        " table is being built anew.",
        "A disk error, or another program that wrote into the database.",
        (
            "Wait some seconds and try again.",
            "See whether it is done: `btmctl daemon status`.",
            "If it stays, stop the daemon and build all tables anew: `btmd --rebuild-projections`.",
            "Check that the log is whole: `btmctl audit verify`.",
        ),
    ),
    "event_undecodable": Help(
        "An event cannot be read",
        "The log holds an entry that this version of btmd does not understand.",
        "It was written by a newer btmd, or was changed.",
        (
            "Compare the versions: `btmctl version`. If a newer btmd ran here before, install that again.",
            "See whether the log was changed: `btmctl audit verify --offline`.",
            "If it is damaged, with the daemon stopped: `btmctl recover --from PATH`.",
        ),
    ),
    "schema_changed": Help(
        "The database's tables were changed",
        "The tables of the log, or the guards that protect them, are not those that btmd made. Nothing was changed.",
        "A person or a program worked on the file btmd.db.",
        (
            "Keep a copy of btmd.db.",
            "See which backups are whole: `btmctl backup verify` (while a daemon runs), or go on to the next step.",
            "With the daemon stopped, rebuild it: `btmctl recover --from ~/.local/state/btmd/backups`.",
        ),
    ),
    "segment_damaged": Help(
        "Condensed ticks cannot be read",
        "A part of the log that holds progress reports of an older training, packed together, cannot be unpacked.",
        "A disk error, or it was written by a newer btmd.",
        (
            "Compare the versions: `btmctl version`.",
            "Find the place: `btmctl audit verify`.",
            "With the daemon stopped, rebuild the database: `btmctl recover --from ~/.local/state/btmd/backups`.",
        ),
    ),
    "segment_tampered": Help(
        "Condensed ticks were exchanged",
        "A packed part of the log is readable and is not the one that btmd packed: somebody changed it.",
        "A person or a program worked on the file btmd.db.",
        (
            "Find the first place that is wrong: `btmctl audit verify`.",
            "See who did what: `btmctl audit log`.",
            "With the daemon stopped, rebuild it from a whole backup: `btmctl recover --from PATH`.",
        ),
    ),
    "store_too_new": Help(
        "The database was written by a newer btmd",
        "A newer version of btmd worked with this database, and this older one does not know its form. It was not"
        " touched.",
        "btmd was downgraded, or an older copy of it was started, from another environment.",
        (
            "See which version this is: `btmctl version`.",
            "Install the newer one again: `{upgrade}`.",
            "See whether there are two installations: `which -a btmd`.",
        ),
    ),
    "duplicate_event": Help(
        "The event is recorded already",
        "Something was to be recorded a second time under the same number. The first time stands; nothing is lost.",
        "A request was repeated after its answer had been lost.",
        (
            "See that it was done: `btmctl audit log`.",
            "If it comes again and again, report it with: `btmctl doctor --bundle`.",
        ),
    ),
}
