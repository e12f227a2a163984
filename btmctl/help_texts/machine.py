"""Errors about the machine: memory, disk, GPU, packages."""

from btmctl.help_texts.form import Help

HELP = {
    "not_enough_memory": Help(
        "Not enough memory",
        "The training (or what you asked for) would need more memory than is free, so it was not begun.",
        "The model is large for this machine, the rows are long, or other programs use the memory.",
        (
            "See what is free: `btmctl hardware`. Close other programs, or wait for your turn: `btmctl queue list`.",
            "Let btmd make it smaller: `btmctl train MODEL DATASET --allow shorter,lora`.",
            "Use shorter rows: `btmctl train MODEL DATASET --set max_length=512`.",
            "Or take a smaller model: `btmctl models recommend`.",
            "See what would be used, without starting it: `btmctl plan MODEL DATASET`.",
        ),
    ),
    "not_enough_disk": Help(
        "Not enough room on the disk",
        "The files that this would write do not fit on the disk with the room that is kept free.",
        "Checkpoints and whole models take much room; an adapter takes little.",
        (
            "See what takes room: `btmctl disk`.",
            "Remove what nothing needs: `btmctl disk clean`.",
            "Delete trainings that you no longer need: `btmctl jobs delete J`.",
            "Keep fewer checkpoints: `btmctl config set checkpoints.keep=1`.",
            "Or train an adapter, which takes far less room: `btmctl train MODEL DATASET --allow lora`.",
        ),
    ),
    "disk_full": Help(
        "The disk is full",
        "The disk that holds btmd's files has no room left. What was written is kept; a training waits for room.",
        "Checkpoints, backups or files of other programs filled it.",
        (
            "See how full it is: `df -h`.",
            "See what btmd takes: `btmctl disk`, and remove what nothing needs: `btmctl disk clean`.",
            "Let old backups go: `btmctl backup prune`.",
            "A training that waited goes on by itself; one that ended: `btmctl jobs resume J`.",
        ),
    ),
    "gpu_unusable": Help(
        "The installed torch cannot use the GPU",
        "There is a GPU, and the installed torch (the library that computes) was not made for it or for its driver.",
        "torch was built without CUDA or for another version of it, or the GPU's driver is too old or too new for it.",
        (
            "See what is installed and which build would fit: `btmctl doctor`.",
            "Type the command that the doctor shows.",
            "Start the daemon again: `btmctl daemon restart`.",
            "Until then, train on the processor: `btmctl train MODEL DATASET --set device=cpu`.",
        ),
    ),
    "sleep_refused": Help(
        "The machine may go to sleep while a training runs",
        "The daemon asked logind to keep the machine awake, and was refused: wholly, or but for going to sleep by"
        " itself. The training goes on; while the machine sleeps, nothing is trained.",
        "A user who sits at the machine may do this. A daemon without a session, of another user or after a login over"
        " ssh often may not, until a rule of polkit lets it.",
        (
            "See whether it is refused, while a training runs: `btmctl status`.",
            'Let a daemon of your own: `sed "/subject/s/btmd/$USER/" {units}/system/50-btmd-sleep.rules | sudo tee'
            " /etc/polkit-1/rules.d/50-btmd-sleep.rules`.",
            "The machine's own daemon has the rule from `btmctl daemon install --system`.",
            "Or leave the machine to itself: `btmctl config set sleep.inhibit=no`.",
        ),
    ),
    "package_missing": Help(
        "A package that this needs is not installed",
        "One way of training needs a further package. The others work without it.",
        "QLoRA, which keeps a model in 4 bits, needs bitsandbytes; it is not installed unless asked for.",
        (
            "Install it beside btmd: `{pip} install bitsandbytes`.",
            "Start the daemon again: `btmctl daemon restart`.",
            "Or train without it: `btmctl train MODEL DATASET --set training_type=lora_adaptation`.",
        ),
    ),
    "state_read_only": Help(
        "The state folder cannot be written",
        "The daemon may not write into the folder where it keeps everything, so it does not start.",
        "The folder belongs to another user (for instance after a start with sudo), or its disk is read-only.",
        (
            "See whose it is: `btmctl doctor`.",
            "See the rights: `ls -ld ~/.local/state/btmd`.",
            "If it is yours and only closed: `chmod 700 ~/.local/state/btmd`.",
            "If it belongs to root, give it back to yourself, as an administrator: `sudo chown -R USER PATH`.",
            "Or choose another folder: `btmd --state-dir PATH`.",
        ),
    ),
}
