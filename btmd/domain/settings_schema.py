"""What can be set: each setting's name, type, default, unit, range and meaning."""

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from btmd.domain.command_line import parse_command
from btmd.domain.quiet_hours import parse_quiet_hours
from btmd.errors import InvalidValue, UnknownKey

Value = int | float | bool | str


class Setting(Struct, frozen=True):
    """One value a person can change: its type, unit, range and meaning."""

    key: str
    default: Value
    meaning: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    needs_restart: bool = False
    check: Callable[[str], object] | None = None
    """Raises InvalidValue for a text that says nothing."""

    @property
    def type_name(self) -> str:
        return {bool: "yes/no", int: "whole number", float: "number", str: "text"}[type(self.default)]

    def parse(self, given: object) -> Value:
        """The value in the setting's own type, from that type or from text. Raises InvalidValue."""
        value = self._typed(given)
        if self.choices and value not in self.choices:
            raise InvalidValue(f"{self.key} cannot be {given!r}.", hint=f"Choose one of: {', '.join(self.choices)}.")
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            low, high = self.minimum, self.maximum
            # Written so that NaN, which compares false with everything, is refused too.
            if not ((low is None or value >= low) and (high is None or value <= high) and abs(value) < 1e300):
                raise InvalidValue(f"{self.key} cannot be {given}.", hint=f"It is {self.range_text()}.")
        return value

    def range_text(self) -> str:
        """The allowed values in words."""
        unit = f" {self.unit}" if self.unit else ""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.minimum is not None and self.maximum is not None:
            return f"a {self.type_name} from {_in_full(self.minimum)} to {_in_full(self.maximum)}{unit}"
        if self.minimum is not None:
            return f"a {self.type_name} of at least {_in_full(self.minimum)}{unit}"
        return f"a {self.type_name}{unit}"

    def _typed(self, given: object) -> Value:
        kind = type(self.default)
        wrong = InvalidValue(f"{self.key} cannot be {given!r}.", hint=f"It is {self.range_text()}.")
        if kind is bool:
            words = {
                "true": True,
                "yes": True,
                "on": True,
                "1": True,
                "false": False,
                "no": False,
                "off": False,
                "0": False,
            }
            if isinstance(given, bool):
                return given
            if isinstance(given, str) and given.strip().lower() in words:
                return words[given.strip().lower()]
            raise wrong
        if kind is str:
            if isinstance(given, str) and "\0" not in given and len(given) <= 10_000:
                if self.check is not None:
                    self.check(given)
                return given
            raise wrong
        if isinstance(given, bool) or not isinstance(given, (int, float, str)):
            raise wrong
        try:
            number = float(given)
            whole = int(given) if isinstance(given, (int, str)) and kind is int else None
        except (ValueError, OverflowError):
            raise wrong from None
        if kind is float:
            return number
        if whole is None:
            if not number.is_integer():
                raise wrong
            whole = int(number)
        return whole


def _in_full(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else f"{number:g}"


SCHEMA: tuple[Setting, ...] = (
    Setting("training.preset", "auto", "Preset used when none is named; auto chooses by model, data and machine."),
    Setting("training.threads", 0, "CPU threads of a training; 0 uses all that this machine grants.", "", 0, 1024),
    Setting("training.seed", 42, "Seed of everything random in a training.", "", 0, 2**31 - 1),
    Setting(
        "training.held_out_fraction",
        0.1,
        "Share of the rows kept back to measure whether it got better.",
        "",
        0.01,
        0.5,
    ),
    Setting(
        "training.held_out_limit",
        200,
        "At most this many held-out rows are measured each time; 0 takes all.",
        "rows",
        0,
        1_000_000,
    ),
    Setting("training.evaluations", 6, "Held-out measurements during a run, besides before and after.", "", 0, 1000),
    Setting(
        "training.patience",
        3,
        "Measurements without gain before a run ends early (from 3 epochs on); 0 never.",
        "",
        0,
        1000,
    ),
    Setting("training.sample_answers", 3, "Held-out prompts answered before and after training.", "prompts", 0, 200),
    Setting("training.sample_tokens", 64, "Length of a sample answer at most.", "tokens", 1, 4096),
    Setting(
        "training.general_questions",
        60,
        "Everyday questions measured before and after, to notice forgetting.",
        "",
        0,
        60,
    ),
    Setting(
        "training.scored_answers",
        24,
        "Held-out prompts with short answers whose answers before and after are compared with the data's.",
        "prompts",
        0,
        1000,
    ),
    Setting("training.tick_every_s", 1.0, "Time between two progress reports.", "seconds", 0.1, 3600),
    Setting("checkpoints.keep", 2, "Newest checkpoints kept beside the best one.", "", 1, 100),
    Setting(
        "checkpoints.every_minutes",
        10.0,
        "Time between two checkpoints, as far as it can be foretold.",
        "minutes",
        0.1,
        1440,
    ),
    Setting("jobs.crash_resumes", 3, "How often a crashed training is taken up again by itself.", "", 0, 100),
    Setting(
        "jobs.cancel_grace_s",
        8.0,
        "How long a cancelled training may take to end before it is killed.",
        "seconds",
        0.0,
        9.0,
    ),
    Setting(
        "monitoring.sample_every_s",
        30.0,
        "How often the machine is looked at while a training runs.",
        "s",
        0.5,
        600.0,
    ),
    Setting(
        "recovery.attempts",
        6,
        "Failed attempts without a newer checkpoint after which a training is not tried again by itself.",
        "",
        0,
        100,
    ),
    Setting(
        "recovery.wait_s",
        10.0,
        "Wait before the second attempt of the same kind; four times as long before each one after it.",
        "seconds",
        0,
        3600,
    ),
    Setting(
        "recovery.answer_hours",
        24.0,
        "How long a training waits for an answer; then it ends and keeps its best checkpoint.",
        "hours",
        0.001,
        8760,
    ),
    Setting(
        "queue.quiet_hours",
        "",
        "When no training starts, in local time, such as 22:00-07:00 Mon-Fri; several are parted by semicolons.",
        check=parse_quiet_hours,
    ),
    Setting(
        "queue.pause_in_quiet_hours",
        False,
        "Whether running trainings give the device up during quiet hours, and go on after them.",
    ),
    Setting("queue.only_on_mains", False, "Whether trainings start only on mains power."),
    Setting(
        "queue.pause_on_battery",
        False,
        "Whether running trainings give the device up on battery power, and go on once mains power is back.",
    ),
    Setting(
        "queue.pass_after_minutes",
        10.0,
        "How long a training that waits for more than its turn, such as memory, keeps later ones from passing it.",
        "minutes",
        0,
        100_000,
    ),
    Setting("sleep.inhibit", True, "Whether the machine is kept from going to sleep while a training runs."),
    Setting("notify.finished", True, "Whether people are told that a training is done."),
    Setting("notify.failed", True, "Whether people are told that a training has failed."),
    Setting("notify.attention", True, "Whether people are told that a training has a question."),
    Setting("notify.warnings", True, "Whether people are told of grave warnings about a training."),
    Setting("notify.progress", False, "Whether people are told when a training is at 25, 50 and 75 percent."),
    Setting("notify.desktop", True, "Whether `btmctl notify` shows notifications on the desktop."),
    Setting("notify.speech", False, "Whether `btmctl notify` speaks notifications."),
    Setting(
        "notify.command",
        "",
        "Program that the daemon runs for each notification; the facts are in its environment (BTMD_TITLE, ...).",
        check=parse_command,
    ),
    Setting("notify.shell", False, "Whether notify.command is run by /bin/sh, and may hold pipes and variables."),
    Setting("notify.command_limit_s", 30.0, "How long the program for notifications may take.", "seconds", 0.1, 3600),
    Setting("disk.reserve_gb", 1.0, "Room on the disk that a training must leave free.", "GB", 0, 10_000),
    Setting(
        "disk.budget_gb",
        0.0,
        "Room for all trainings together; beyond it, checkpoints that nothing needs go by themselves; 0: no bound.",
        "GB",
        0,
        1_000_000,
    ),
    Setting("uploads.max_gb", 20.0, "Largest file that can be added as a dataset.", "GB", 0.001, 10_000),
    Setting("chat.max_new_tokens", 256, "Length of an answer in a chat at most.", "tokens", 1, 8192),
    Setting("chat.temperature", 0.0, "0 gives the most likely answer; higher values vary more.", "", 0, 2),
    Setting("chat.idle_s", 120.0, "How long a model stays loaded after the last question.", "seconds", 1, 86_400),
    Setting("backup.every_hours", 24.0, "Time between two backups made by themselves; 0 makes none.", "hours", 0, 8760),
    Setting("backup.wait_hours", 6.0, "How long a due backup waits for a training to end.", "hours", 0, 8760),
    Setting("backup.drill_every_days", 7.0, "Time between two restore drills; 0 makes none.", "days", 0, 3650),
    Setting("backup.keep_last", 7, "Newest backups of each kind that are kept.", "", 1, 10_000),
    Setting("backup.keep_daily", 7, "Days for which the newest backup is kept.", "days", 0, 10_000),
    Setting("backup.keep_weekly", 4, "Weeks for which the newest backup is kept.", "weeks", 0, 10_000),
    Setting("backup.keep_monthly", 6, "Months for which the newest backup is kept.", "months", 0, 10_000),
    Setting("backup.max_gb", 0.0, "Room for backups in the state folder; 0 sets no bound.", "GB", 0, 1_000_000),
    Setting(
        "log.condense_after_days",
        7.0,
        "Progress of trainings that is older than this is condensed, without loss.",
        "days",
        0,
        36_500,
    ),
    Setting(
        "log.max_tick_mb",
        64.0,
        "Room for progress that is not condensed; beyond it, that of ended trainings is condensed sooner.",
        "MB",
        1,
        1_000_000,
    ),
    Setting(
        "log.level",
        "info",
        "How much the daemon writes into its own log.",
        choices=("debug", "info", "warning", "error"),
        needs_restart=True,
    ),
)
BY_KEY: Mapping[str, Setting] = {setting.key: setting for setting in SCHEMA}


def setting(key: str) -> Setting:
    """The setting named ``key``. Raises UnknownKey with the nearest name."""
    found = BY_KEY.get(key)
    if found is None:
        near = difflib.get_close_matches(key, BY_KEY, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]}?" if near else "`btmctl config list` shows all settings."
        raise UnknownKey(f"There is no setting called {key}.", hint=hint)
    return found


def schema_entry(one: Setting) -> dict[str, Any]:
    """What a setting may be, for people and programs."""
    return {
        "key": one.key,
        "type": one.type_name,
        "default": one.default,
        "unit": one.unit,
        "minimum": one.minimum,
        "maximum": one.maximum,
        "choices": list(one.choices),
        "allowed": one.range_text(),
        "meaning": one.meaning,
        "needs_restart": one.needs_restart,
    }
