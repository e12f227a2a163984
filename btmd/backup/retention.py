"""Which backups stay: the newest few, and one for each of the last days, weeks and months that have one."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from btmd.backup.manifests import BackupKind

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Policy(msgspec.Struct, frozen=True):
    """How many to keep of each; days, weeks (ISO) and months are those of UTC that have a backup.

    ``max_size_bytes`` bounds the whole folder's share of a store (None: no bound).
    """

    last: int = 7
    daily: int = 7
    weekly: int = 4
    monthly: int = 6
    max_size_bytes: int | None = None


class Dated(msgspec.Struct, frozen=True):
    backup_id: str
    kind: BackupKind
    created_at_us: int


def kept(backups: Sequence[Dated], policy: Policy) -> dict[str, tuple[str, ...]]:
    """The ids that stay, each with the reasons. The newest of every kind always stays, and kinds count apart."""
    reasons: dict[str, list[str]] = {}
    for kind in sorted({backup.kind for backup in backups}):
        mine = sorted(
            (backup for backup in backups if backup.kind == kind), key=lambda one: one.created_at_us, reverse=True
        )
        for backup in mine[: max(1, policy.last)]:
            reasons.setdefault(backup.backup_id, []).append("last")
        for reason, count, period in (
            ("daily", policy.daily, _day),
            ("weekly", policy.weekly, _week),
            ("monthly", policy.monthly, _month),
        ):
            for backup in _newest_of_each(mine, period)[:count]:
                reasons.setdefault(backup.backup_id, []).append(reason)
    return {backup_id: tuple(found) for backup_id, found in reasons.items()}


def _newest_of_each(newest_first: Sequence[Dated], period: Callable[[datetime], tuple[int, ...]]) -> list[Dated]:
    found: dict[tuple[int, ...], Dated] = {}
    for backup in newest_first:
        found.setdefault(period(_EPOCH + timedelta(microseconds=backup.created_at_us)), backup)
    return list(found.values())


def _day(moment: datetime) -> tuple[int, ...]:
    return moment.year, moment.month, moment.day


def _week(moment: datetime) -> tuple[int, ...]:
    return tuple(moment.isocalendar()[:2])


def _month(moment: datetime) -> tuple[int, ...]:
    return moment.year, moment.month
