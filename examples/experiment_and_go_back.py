"""Make a backup, try something, and bring settings and presets back to where they were.

python examples/experiment_and_go_back.py
"""

from btmctl import BasicTrainingMode

training = BasicTrainingMode()
backup = training.create_system_backup("Before the experiment")
print("Made", backup.backup_id, "of", backup.size_mb, "MB; there are", len(training.list_system_backups()))

input("Change what you like (btmctl config set ...), then press Enter. ")

training.restore_system_backup(backup.backup_id)
print("Settings, presets and registrations are as they were before.")
