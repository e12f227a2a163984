"""What is read from a trace is what was sent; the proof that nothing is would show nothing otherwise."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.offline import ATTEMPTS, CONTROL
from benchmarks.socket_traces import Traces, read_traces, traced

PYTHON = 'execve("/bin/python", ["python", "-P", "-m", "btmd.trainer", "/jobs/1"], 0x7f /* 9 vars */) = 0'
INET = "{sa_family=AF_INET, sin_port=htons(443), sin_addr=inet_addr(192.0.2.1)}, 16"
HARMLESS = (
    "socket(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC, 0) = 3",
    'connect(3, {sa_family=AF_UNIX, sun_path="/run/sa_family=AF_INET"}, 110) = 0',
    'sendto(3, "{sa_family=AF_INET, \\"sin_port=htons(1)}"..., 99, MSG_NOSIGNAL, NULL, 0) = 99',
    'sendmsg(3, {msg_name=NULL, msg_iov=[{iov_base="{sa_family=AF_INET6}", iov_len=20}], msg_flags=0}, 0) = 20',
    "bind(4, {sa_family=AF_NETLINK, nl_pid=0, nl_groups=00000000}, 12) = 0",
    "sendto(4, [{nlmsg_len=20}], 20, 0, {sa_family=AF_NETLINK, nl_pid=0, nl_groups=00000000}, 12) = 20",
    "socketpair(AF_UNIX, SOCK_STREAM, 0, [5, 6]) = 0",
    "listen(7, 128) = 0",
    "io_uring_setup(8, {flags=0}) = -1 EPERM (Operation not permitted)",
)
HARMFUL = (
    f"connect(3, {INET}) = -1 ENETUNREACH (Network is unreachable)",
    'connect(3, {sa_family=AF_INET6, sin6_port=htons(53), inet_pton(AF_INET6, "::1", &sin6_addr)}, 28) = 0',
    f'sendto(3, "x", 1, 0, {INET}) = 1',
    f'sendmsg(3, {{msg_name={INET}, msg_iov=[{{iov_base="x", iov_len=1}}]}}, 0) = 1',
    f'sendmmsg(3, [{{msg_hdr={{msg_name={INET}, msg_iov=[]}}, msg_len=1}}], 1, 0) = 1',
    "connect(3, {sa_family=AF_VSOCK, svm_cid=2, svm_port=1}, 16) = 0",
    "io_uring_setup(8, {flags=0}) = 9",
)  # fmt: skip


def read(folder: Path, *lines: str) -> Traces:
    trace = folder / "trace"
    trace.write_text("".join(f"{line}\n" for line in lines))
    return read_traces([trace])


def test_what_stays_here_is_named_and_counts_as_nothing(tmp_path: Path) -> None:
    found = read(tmp_path, f"7 {PYTHON}", *(f"7 {line}" for line in HARMLESS), "7 +++ exited with 0 +++")
    assert found.reached == []
    assert found.families == {"AF_UNIX": {"btmd.trainer"}}
    assert found.named == {'"/run/sa_family=AF_INET"': 1}
    assert (found.programs, found.lines) == ({"btmd.trainer": 1}, 1 + len(HARMLESS))


@pytest.mark.parametrize("line", HARMFUL, ids=lambda line: line.split(",")[0])
def test_what_leaves_is_found_with_whose_it_is(line: str, tmp_path: Path) -> None:
    # A thread of a child: its line stands before the one that tells whose it is, and both are cut by another's.
    lines = (
        f"7 {PYTHON}",
        "7 clone(child_stack=NULL, flags=CLONE_VM <unfinished ...>",
        "8 clone3({flags=CLONE_THREAD}, 88 <unfinished ...>",
        f"9 {line.partition(' = ')[0].removesuffix(')')} <unfinished ...>",
        "7 <... clone resumed>) = 8",
        f"9 <... {line.partition('(')[0]} resumed>) = {line.partition(' = ')[2]}",
        "8 <... clone3 resumed> => {parent_tid=[9]}, 88) = 9",
    )
    for written in (lines, lines[:5] + lines[6:]):
        unended = len(written) < len(lines)
        if unended and line.startswith("io_uring"):
            continue
        (reached,) = read(tmp_path, *written).reached
        assert (reached.program, reached.call) == ("btmd.trainer", line.partition("(")[0])


def test_waiting_for_others_on_a_network_is_found_and_looking_for_an_address_is_told(tmp_path: Path) -> None:
    found = read(tmp_path, f"7 bind(3, {INET}) = 0", f"7 bind(4, {INET}) = 0", "7 listen(4, 5) = 0")
    assert (len(found.bound), [one.call for one in found.reached]) == (2, ["listen"])


def test_a_line_that_is_not_understood_is_no_good_news(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="something else"):
        read(tmp_path, "something else")


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is missing")
def test_a_real_program_that_tries_is_found_every_time(tmp_path: Path) -> None:
    command = traced([sys.executable, "-c", CONTROL], tmp_path / "trace")
    if subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("this system lets nobody follow programs")
    found = read_traces([tmp_path / "trace"])
    assert len(found.reached) == ATTEMPTS
    assert set(found.families) == {"AF_INET", "AF_INET6"}
