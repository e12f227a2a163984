"""What a waiting job waits for, in sentences; part of the catalogue in texts."""

QUEUE_TEXTS: dict[str, str] = {
    "asked_yield": "It saves a checkpoint and frees the device for the time being; then it goes on by itself.",
    "wait_turn_one": "Waits for its turn: the training {job} comes first.",
    "wait_turn": "Waits for its turn: {count} other trainings come first.",
    "wait_training": "Waits for the training {job} to end; it has {device}.",
    "wait_other_btmd": "Waits for {device}: another btmd trains on {device}.",
    "wait_other_btmd_by": "Waits for {device}: another btmd trains on {device} (process {pid}{of_user} has the lock "
    "{path}).",
    "of_user": " of {user}",
    "wait_lock": "Waits for {device}, which cannot be claimed for a training: {problem}.",
    "wait_memory": "Waits for memory: it needs about {needed}, and {free} are free.",
    "wait_memory_beside": "Waits for memory: it needs up to {needed}, and the trainings that run leave {free}.",
    "wait_gpu_memory": "Waits for memory on {device}: it needs about {needed}, and {free} are free.",
    "wait_gpu_program": "Waits for another program to leave {device}: it needs about {needed}, and {free} are free "
    "({programs}).",
    "wait_gpu_missing": "Waits for {device}, which is not there now.",
    "wait_disk": "Waits for room on the disk: it needs about {needed}, {free} are free, and {reserve} of them stay in "
    "reserve (disk.reserve_gb).",
    "wait_quiet_hours": "Waits for the end of the quiet hours {when} (queue.quiet_hours).",
    "wait_quiet_always": "Waits for the end of the quiet hours, but as queue.quiet_hours stands they have none.",
    "wait_mains": "Waits for mains power, as the machine runs on its battery (queue.only_on_mains).",
    "wait_user_limit": "Waits for another training of the same user to end: {count} at a time are allowed.",
    "wait_user_none": "Waits: its user may have no training at work now; an admin can change that.",
    "wait_held": "Is held back: `btmctl queue release {job}` lets it go on.",
    "wait_data": "Waits for its data: a restore took the dataset {dataset} off the list. Once that restore is undone "
    "it goes on by itself.",
    "wait_later": "Tries again {when}.",
    "wait_failure": "Looks whether it can be tried again after its last attempt failed.",
    "program": "{name} (process {pid}) uses {used}",
    "program_unknown": "process {pid}",
    "exactly_today": "at {clock}",
    "exactly_tomorrow": "tomorrow at {clock}",
    "exactly_weekday": "on {weekday} at {clock}",
    "the_cpu": "the CPU",
    "a_gpu": "GPU {index}",
}
