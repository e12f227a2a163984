"""Everything that can be asked, and who answers it."""

from typing import Any, get_args

from btmd.domain import (
    access,
    backup,
    dataset,
    health,
    job,
    machine,
    model,
    notification,
    ownership,
    preset_definition,
    reset,
    settings,
    use,
    warning,
)
from btmd.domain.decider import Decider

SETTINGS = Decider("settings", settings.stream, settings.decide, settings.evolve, settings.SettingsState)
PRESETS = Decider(
    "preset",
    preset_definition.stream,
    preset_definition.decide,
    preset_definition.evolve,
    preset_definition.PresetState,
)
ACCESS = Decider("access", access.stream, access.decide, access.evolve, access.AccessState)
OWNERSHIP = Decider("ownership", ownership.stream, ownership.decide, ownership.evolve, ownership.OwnershipState)
MODELS = Decider("model", model.stream, model.decide, model.evolve, model.ModelState)
DATASETS = Decider("dataset", dataset.stream, dataset.decide, dataset.evolve, dataset.DatasetState)
JOBS = Decider("job", job.stream, job.decide, job.evolve, job.JobState)
BACKUPS = Decider("backups", backup.stream, backup.decide, backup.evolve, backup.BackupsState)
MACHINE = Decider("machine", machine.stream, machine.decide, machine.evolve, machine.MachineState)
HEALTH = Decider("health", health.stream, health.decide, health.evolve, health.HealthState)
WARNINGS = Decider("watch", warning.stream, warning.decide, warning.evolve, warning.WatchState)
NOTIFICATIONS = Decider(
    "notifications", notification.stream, notification.decide, notification.evolve, notification.NotificationState
)
USES = Decider("use", use.stream, use.decide, use.evolve, use.UseState)
RESETS = Decider("resets", reset.stream, reset.decide, reset.evolve, reset.ResetState)

DECIDERS: dict[type[Any], Decider] = {
    **dict.fromkeys(get_args(settings.SettingsCommand), SETTINGS),
    **dict.fromkeys(get_args(preset_definition.PresetCommand), PRESETS),
    **dict.fromkeys(get_args(access.AccessCommand), ACCESS),
    **dict.fromkeys(get_args(ownership.OwnershipCommand), OWNERSHIP),
    **dict.fromkeys(get_args(model.ModelCommand), MODELS),
    **dict.fromkeys(get_args(dataset.DatasetCommand), DATASETS),
    **dict.fromkeys(get_args(job.JobCommand), JOBS),
    **dict.fromkeys(get_args(backup.BackupCommand), BACKUPS),
    **dict.fromkeys(get_args(machine.MachineCommand), MACHINE),
    **dict.fromkeys(get_args(health.HealthCommand), HEALTH),
    **dict.fromkeys(get_args(reset.ResetCommand), RESETS),
    **dict.fromkeys(get_args(use.UseCommand), USES),
    warning.ReportFindings: WARNINGS,
    notification.MakeNotification: NOTIFICATIONS,
}

__all__ = [
    "ACCESS",
    "BACKUPS",
    "DATASETS",
    "DECIDERS",
    "HEALTH",
    "JOBS",
    "MACHINE",
    "MODELS",
    "NOTIFICATIONS",
    "OWNERSHIP",
    "PRESETS",
    "RESETS",
    "SETTINGS",
    "USES",
    "WARNINGS",
]
