"""Backups: what came of them is recorded once; folders are compared with what is known."""

from msgspec.structs import replace

from btmd.domain.backup import (
    STREAM,
    BackupCreated,
    BackupDeleted,
    BackupDeletionBegun,
    BackupDeletionBroken,
    BackupFacts,
    BackupFaulty,
    BackupFound,
    BackupLost,
    BackupVerified,
    BeginDeletion,
    CheckedBackup,
    CompareFolder,
    DrillFailed,
    DrillPassed,
    LogRewritten,
    PassphraseSet,
    RecordBackup,
    RecordChecks,
    RecordDeletion,
    RecordDrill,
    RecordKeyAction,
    RecoveryKeyConfirmed,
    RecoveryKeyShown,
    stream,
)
from tests.domain.given import given

FACTS = BackupFacts("a" * 64, "full", 1_000, "first", "manual", 1, 20, "ff", 20, 1, 0, ("settings",), 900)
OTHER = replace(FACTS, name="b" * 64, created_at_us=2_000)
CREATED = BackupCreated("/b", FACTS, 20, 900)


def test_a_backup_is_recorded_with_what_it_added() -> None:
    command = RecordBackup("/b", FACTS, 20, 900)
    given().when(command).then(CREATED)
    assert stream(command) == STREAM
    assert FACTS.backup_id == "a" * 16


def test_a_log_that_does_not_hold_what_was_backed_up_is_told() -> None:
    command = RecordBackup("/b", OTHER, 20, 900, ("a" * 16,))
    given(CREATED).when(command).then(BackupCreated("/b", OTHER, 20, 900), LogRewritten("/b", ("a" * 16,)))


def test_a_folder_that_holds_what_is_known_says_nothing() -> None:
    given(CREATED).when(CompareFolder("/b", (FACTS,))).then_nothing()
    given(CREATED).when(CompareFolder("/b", (), unreadable=(FACTS.name,))).then_nothing()


def test_what_appeared_and_what_vanished_is_noted_once() -> None:
    command = CompareFolder("/b", (OTHER,))
    given(CREATED).when(command).then(BackupFound("/b", OTHER), BackupLost("/b", FACTS.name))
    given(CREATED, BackupFound("/b", OTHER), BackupLost("/b", FACTS.name)).when(command).then_nothing()
    given(CREATED).when(CompareFolder("/c", (FACTS,))).then(BackupFound("/c", FACTS))


def test_a_deleted_backup_is_not_lost() -> None:
    deleted = BackupDeleted("/b", FACTS.name, "asked")
    given(CREATED).when(RecordDeletion("/b", (FACTS.name,), "asked")).then(deleted)
    given(CREATED, deleted).when(CompareFolder("/b", ())).then_nothing()


def test_what_was_about_to_be_deleted_and_is_gone_was_deleted_and_what_stays_stays() -> None:
    begin = BeginDeletion("/b", (FACTS.name, OTHER.name, "c" * 64), "prune")
    begun = BackupDeletionBegun("/b", (FACTS.name, OTHER.name), "prune")
    both = (CREATED, BackupFound("/b", OTHER))
    given(*both).when(begin).then(begun)
    given(CREATED).when(BeginDeletion("/c", (FACTS.name,), "asked")).then_nothing()
    deleted, broken = BackupDeleted("/b", FACTS.name, "prune"), BackupDeletionBroken("/b", (OTHER.name,))
    given(*both, begun).when(CompareFolder("/b", (OTHER,))).then(deleted, broken)
    # Once it is known how the deletion went, what vanishes later is lost.
    given(*both, begun, deleted, broken).when(CompareFolder("/b", ())).then(BackupLost("/b", OTHER.name))
    given(*both, begun).when(CompareFolder("/c", (FACTS,))).then(BackupFound("/c", FACTS))


def test_one_that_was_written_anew_takes_the_place_of_the_old() -> None:
    command = RecordDeletion("/b", (FACTS.name,), "prune", made_anew=OTHER)
    given(CREATED).when(command).then(BackupFound("/b", OTHER), BackupDeleted("/b", FACTS.name, "prune"))


def test_checks_and_drills_are_recorded_as_they_went() -> None:
    whole, broken = CheckedBackup("a", 20, 0, "matches"), CheckedBackup("b", code="damaged", detail="A bit fell.")
    given(CREATED).when(RecordChecks("/b", (whole, broken))).then(
        BackupVerified("/b", "a", 20, 0, "matches"), BackupFaulty("/b", "b", "damaged", "A bit fell.")
    )
    drill = RecordDrill("/b", "a", 20, 20, 7, "matches")
    given(CREATED).when(drill).then(DrillPassed("/b", "a", 20, 20, 7, "matches"))
    failed = replace(drill, code="damaged", detail="A bit fell.")
    given(CREATED).when(failed).then(DrillFailed("/b", "a", 7, "damaged", "A bit fell."))


def test_it_is_known_whether_somebody_could_open_them_elsewhere() -> None:
    assert given(CREATED).state(RecordKeyAction).opens_elsewhere is False
    assert given(RecoveryKeyShown()).state(RecordKeyAction).opens_elsewhere is False
    assert given(RecoveryKeyShown(), RecoveryKeyConfirmed()).state(RecordKeyAction).opens_elsewhere is True
    again = given(RecoveryKeyShown(), RecoveryKeyConfirmed(), RecoveryKeyShown())
    assert again.state(RecordKeyAction).opens_elsewhere is False
    assert given(PassphraseSet(())).state(RecordKeyAction).opens_elsewhere is True
    given().when(RecordKeyAction("shown")).then(RecoveryKeyShown())
