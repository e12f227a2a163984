"""Errors about the daemon: whether it runs, and whether it can be reached."""

from btmctl.help_texts.form import Help

HELP = {
    "unreachable": Help(
        "The daemon cannot be reached",
        "btmctl is only the remote control; the work is done by the daemon, and none answers. Trainings go on.",
        "It was not started, it ended, or it has its socket in another place than where btmctl looks.",
        (
            "See what is wrong: `btmctl doctor` works without a daemon too.",
            "Start it: `btmctl daemon start`. Or in a terminal, where it says what it does: `btmctl daemon run`.",
            "For a first try, without any setting up: `btmctl quickstart`.",
            "If it runs with a socket of its own, name that: `btmctl status --socket PATH`.",
            "If it does not stay up, read why: `journalctl --user -u btmd -n 50`, or where it is no service:"
            " `tail -n 50 ~/.local/state/btmd/daemon.log`.",
        ),
    ),
    "stopping": Help(
        "The daemon is stopping",
        "The daemon is about to end and takes nothing new. Trainings write a checkpoint and go on, or go on later.",
        "Somebody stopped or restarted it, or the machine is being shut down.",
        (
            "Wait some seconds and look again: `btmctl status`.",
            "If it stays away, start it: `btmctl daemon start`.",
        ),
    ),
    "already_running": Help(
        "Another daemon uses this state folder",
        "A second daemon was started on the same folder. Only one may work there, so the second one ended.",
        "It runs already as a service, or in another terminal.",
        (
            "See the one that runs: `btmctl status`. There is no need for another.",
            "To replace it, stop it first: Ctrl-C in its terminal, or `btmctl daemon stop`.",
            "For a second one beside it, give that a folder of its own: `btmd --state-dir PATH`.",
        ),
    ),
    "not_only_ours": Help(
        "There is more in a folder than btmd's",
        "The state is deleted only where nothing but btmd's own lies in its folders. Nothing was changed.",
        "The folder is one of somebody's choosing (BTMD_STATE_DIR, BTMD_CONFIG_DIR), or something was put into it.",
        (
            "See what lies there: `ls -l PATH`.",
            "Move away what is not btmd's, then once more: `btmctl daemon uninstall --delete-state`.",
            "Or leave the state where it is, and delete by hand what is to go: `btmctl daemon uninstall`.",
        ),
    ),
    "socket_taken": Help(
        "The socket path is taken",
        "Something else is where the daemon wants to have its socket, the place where btmctl reaches it.",
        "Another daemon has it, it belongs to another user, or an ordinary file lies there.",
        (
            "See who answers there: `btmctl doctor`.",
            "See what lies there, and remove it if it is no socket and not needed: `ls -l PATH`.",
            "Or give the daemon another place: `btmd --socket PATH`; then `btmctl status --socket PATH`.",
        ),
    ),
    "no_systemd": Help(
        "There is no service manager to be reached",
        "btmd cannot be set up as a service here, since the program that looks after services does not answer.",
        "The machine (often a container) was not started by systemd, or you changed the user with su or sudo, which"
        " begins no login of its own.",
        (
            "Without a service, let it run in the background: `btmctl daemon start`.",
            "Or log in as this user in another way, for instance with ssh, and try again.",
            "See whether systemd answers: `systemctl --user status`.",
        ),
    ),
    "systemd_failed": Help(
        "systemd did not do what it was told",
        "The program that looks after services refused, or the service ended at once.",
        "The daemon does not start, a unit's file was changed by hand, or an administrator's rights are needed.",
        (
            "Read why: `journalctl --user -u btmd -n 30` (of the whole machine's service without --user).",
            "Check the installation: `btmctl doctor`.",
            "See whether it runs by hand: `btmctl daemon run`.",
        ),
    ),
    "program_unreachable": Help(
        "The service could not reach its program",
        "The Python that btmd is installed in lies where the service's user may not go, so nothing was set up.",
        "It is in your home folder or in a temporary one, which a service of the whole machine cannot read.",
        (
            "A service of your own needs none of the machine's: `btmctl daemon install --user`.",
            "For the whole machine, install btmd where all may read: `{for_everybody}`.",
            "Then set the service up from there: `sudo /opt/btmd/bin/btmctl daemon install --system`.",
        ),
    ),
    "changed_by_hand": Help(
        "A file of the service was changed by hand",
        "A file that would be written was changed by somebody since btmctl wrote it, so it is left as it is.",
        "Changes of one's own belong into a drop-in, a file beside it, which is never written over.",
        (
            "See what differs from what btmctl would write: `systemctl --user cat btmd`.",
            "Put your change into a drop-in: `systemctl --user edit btmd`.",
            "Then write the file anew; the old one is kept beside it: `btmctl daemon install --user --replace`.",
        ),
    ),
    "child_failed": Help(
        "A worker process failed",
        "A process that the daemon started for one piece of work (reading data, answering, checking) ended too early."
        " The daemon itself goes on.",
        "Mostly memory was short; now and then a file makes the reader stumble.",
        (
            "Try it once more.",
            "See how much memory is free: `btmctl hardware`. Close other programs if it is little.",
            "See what was wrong: `journalctl --user -u btmd -n 50`, or where it is no service:"
            " `tail -n 50 ~/.local/state/btmd/daemon.log`.",
            "If it happens again, report it with what this writes: `btmctl doctor --bundle`.",
        ),
    ),
    "daemon_failed": Help(
        "The private daemon did not start",
        "The quickstart has a daemon of its own, and that one ended before it was ready.",
        "The disk is full, its folder may not be written, or a package is missing.",
        (
            "Check the installation: `btmctl doctor`.",
            "Read the end of its log, at the path that the error names.",
            "Begin the quickstart anew: move the folder btmd-quickstart away, then `btmctl quickstart`.",
        ),
    ),
    "store_busy": Help(
        "The database is locked by another program",
        "Another program has the daemon's database open for writing, so nothing could be recorded.",
        "A database browser or a copying program has the file btmd.db open.",
        (
            "Close the program that has btmd.db open, then try again.",
            "To copy the data, use a backup in place of copying the file: `btmctl backup create --to PATH`.",
        ),
    ),
    "store_failed": Help(
        "The event log cannot be written",
        "The daemon could not write to its database. It takes nothing new until it can; trainings go on.",
        "The disk is full, was taken away or has errors, or the file's rights were changed.",
        (
            "See what the daemon says: `btmctl daemon status`.",
            "See whether the disk is full: `df -h`. Make room if it is: `btmctl disk clean`.",
            "Check folders and rights: `btmctl doctor`.",
            "When the cause is gone, the daemon goes on by itself; otherwise `btmctl daemon restart`.",
            "Check that the log is whole: `btmctl audit verify`.",
        ),
    ),
}
