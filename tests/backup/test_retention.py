"""Which backups stay."""

from datetime import UTC, datetime, timedelta

import pytest

from btmd.backup.manifests import BackupKind
from btmd.backup.retention import Dated, Policy, kept

START = datetime(2026, 1, 1, 3, tzinfo=UTC)


def daily(days: int, kind: BackupKind = "full") -> list[Dated]:
    moments = [START + timedelta(days=day) for day in range(days)]
    return [Dated(f"{kind}-{at:%m%d}", kind, int(at.timestamp() * 1e6)) for at in moments]


def test_each_rule_keeps_the_newest_of_its_periods() -> None:
    found = kept(daily(90), Policy(last=2, daily=3, weekly=2, monthly=3))
    assert found == {
        "full-0331": ("last", "daily", "weekly", "monthly"),
        "full-0330": ("last", "daily"),
        "full-0329": ("daily", "weekly"),
        "full-0228": ("monthly",),
        "full-0131": ("monthly",),
    }


def test_several_of_one_day_count_as_one_day() -> None:
    same_day = [Dated(f"b{hour}", "full", int((START + timedelta(hours=hour)).timestamp() * 1e6)) for hour in range(5)]
    assert set(kept(same_day, Policy(last=1, daily=7, weekly=4, monthly=6))) == {"b4"}


def test_kinds_do_not_push_each_other_out() -> None:
    backups = daily(1) + [
        Dated(f"c{hour}", "config", int((START + timedelta(days=9, hours=hour)).timestamp() * 1e6)) for hour in range(9)
    ]
    found = kept(backups, Policy(last=2, daily=0, weekly=0, monthly=0))
    assert set(found) == {"full-0101", "c8", "c7"}


@pytest.mark.parametrize("count", [0, 1, 40])
def test_the_newest_always_stays(count: int) -> None:
    found = kept(daily(count), Policy(last=0, daily=0, weekly=0, monthly=0))
    assert len(found) == min(count, 1)
