"""Ends without a word, told apart by what could be seen."""

import subprocess
import sys
from pathlib import Path

import pytest

from btmd.job_folder import JobFolder
from btmd.jobs import trainer_end
from btmd.jobs.recovery_words import cause_text
from btmd.jobs.trainer_end import TrainerEnd
from btmd.recovery import Death, cause_of

GB = 1024**3
CASES = [
    (Death(signal=9), "killed", "by a person or another program"),
    (Death(signal=9, group_kills=1, limit_bytes=2 * GB), "out_of_memory", "control group may have (2.0 GB)"),
    (Death(group_kills=1), "out_of_memory", "control group"),
    (Death(signal=9, machine_kills=1), "out_of_memory", "the machine ran out of memory"),
    (Death(signal=9, used_share=0.97), "out_of_memory", "97 % of the memory was in use"),
    (Death(signal=9, used_share=0.6), "killed", "memory was not short"),
    (Death(signal=9, process_state="T"), "killed", "stopped by a signal"),
    (Death(signal=11), "crash", "SIGSEGV"),
    (Death(signal=6), "crash", "SIGABRT"),
    (Death(signal=6, log_signs=("bad_alloc",)), "out_of_memory", "memory that it was not given"),
    (
        Death(signal=11, address_bytes=95 * GB, address_limit_bytes=100 * GB),
        "out_of_memory",
        "memory that it was not given (100 GB)",
    ),
    (Death(signal=11, address_bytes=20, address_limit_bytes=100), "crash", "SIGSEGV"),
    (Death(exit_code=1, log_signs=("memoryerror",)), "out_of_memory", "not given"),
    (Death(exit_code=1, log_signs=("no space left on device",)), "disk_full", "the disk is full"),
    (Death(signal=15), "killed", "signal 15"),
    (Death(exit_code=3), "crash", "code 3"),
    (Death(), "crash", "without a word"),
]


@pytest.mark.parametrize(("death", "reason", "words"), CASES)
def test_each_end_has_its_cause_and_a_sentence(death: Death, reason: str, words: str) -> None:
    cause = cause_of(death)
    assert cause.reason == reason
    assert words in cause_text(cause)


def test_the_evidence_holds_what_was_seen_and_nothing_else() -> None:
    cause = cause_of(Death(signal=9, group_kills=2, used_share=0.98765, limit_bytes=GB))
    assert cause.evidence == {
        "signal": 9,
        "group_kills": 2,
        "used_share": 0.988,
        "limit_bytes": GB,
        "where": "cgroup",
    }


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, resource.RLIM_INFINITY))
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_living_process_is_read_and_its_log_is_searched_for_fixed_words_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = JobFolder(tmp_path)
    folder.log_path(1).parent.mkdir()
    folder.log_path(1).write_text("secret row text\nterminate called after throwing std::bad_alloc\n")
    counts = iter([3, 4])
    monkeypatch.setattr(trainer_end, "_group_kills", lambda _: next(counts))
    with subprocess.Popen([sys.executable, "-c", LIMITED], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        end = TrainerEnd(folder, 1)
        end.begin(process.pid, adopted=False)
        seen = end.evidence()
        assert seen["address_limit_bytes"] == 2 << 30
        assert 0 < seen["address_bytes"] < 2 << 30
        assert seen["resident_bytes"] > 1_000_000
        process.kill()
    death = end.death(signal=9, exit_code=None)
    assert death.group_kills in (0, 1)
    assert death.log_signs == ("bad_alloc",)
    # Another daemon finds the counts from before, so that a kill while it was away is told as well.
    later = TrainerEnd(folder, 1)
    assert later.death(signal=None, exit_code=None).group_kills >= 0
    assert (tmp_path / "kills.json").exists()


def test_counters_of_both_versions_of_control_groups_are_read(tmp_path: Path) -> None:
    newer, older = tmp_path / "2", tmp_path / "1"
    for folder in (newer, older):
        folder.mkdir()
    (newer / "memory.events").write_text("low 0\nhigh 0\nmax 7\noom 2\noom_kill 2\noom_group_kill 0\n")
    (older / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 5\n")
    assert trainer_end._group_kills(newer) == 2
    assert trainer_end._group_kills(older) == 5
    assert trainer_end._group_kills(tmp_path / "none") == 0
