"""Whole machines: what is read from the files of a laptop, a server with two sockets, and containers."""

from pathlib import Path

import pytest

from btmd.domain.hardware import Power
from btmd.hardware.cpu import read_cpu
from btmd.hardware.disk import read_disk
from btmd.hardware.memory import read_memory
from btmd.hardware.power import read_power
from tests.hardware.machines import GB, container_v1, container_v2, laptop, machine, numa_server


@pytest.mark.parametrize(("plugged", "source"), [(True, "mains"), (False, "battery")])
def test_a_laptop_on_its_battery_is_told_and_a_mouse_is_none(tmp_path: Path, plugged: bool, source: str) -> None:
    assert read_power(machine(tmp_path, laptop(plugged=plugged, charge=63))) == Power(source, 63)


def test_a_laptops_cores_memory_and_encrypted_disk(tmp_path: Path) -> None:
    root = machine(tmp_path, laptop(plugged=True, charge=80))
    cpu = read_cpu(root, frozenset(range(8)))
    assert (cpu.model, cpu.usable_cores, cpu.native_bf16) == (
        "Intel(R) Core(TM) i7-8650U CPU @ 1.90GHz",
        4,
        False,
    )
    memory = read_memory(root)
    assert (memory.limit_bytes, memory.available_bytes, memory.swap_total_bytes) == (None, 9 * GB, 2 * GB)
    disk = read_disk(Path("/"), root)
    assert (disk.filesystem, disk.rotational, disk.on_network) == ("ext4", False, False)


def test_a_battery_that_is_full_or_whose_supply_tells_nothing(tmp_path: Path) -> None:
    supply = "sys/class/power_supply"
    full = {f"{supply}/BAT1/type": "Battery\n", f"{supply}/BAT1/status": "Full\n"}
    assert read_power(machine(tmp_path / "full", full)) == Power("mains", None)
    alone = {f"{supply}/BAT1/type": "Battery\n", f"{supply}/BAT1/status": "Discharging\n"}
    assert read_power(machine(tmp_path / "alone", alone)) == Power("battery", None)
    over_usb = alone | {f"{supply}/usb/type": "USB\n", f"{supply}/usb/online": "1\n"}
    assert read_power(machine(tmp_path / "usb", over_usb)) == Power("mains", None)


def test_a_machine_without_a_battery_runs_on_mains_and_one_that_tells_nothing_is_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "sys/class/power_supply").mkdir(parents=True)
    assert read_power(tmp_path) == Power("mains", None)
    assert read_power(tmp_path / "nothing") == Power("", None)


def test_a_server_with_two_sockets(tmp_path: Path) -> None:
    root = machine(tmp_path, numa_server())
    cpu = read_cpu(root, frozenset(range(112)))
    assert (cpu.logical_cores, cpu.physical_cores, cpu.usable_cores, cpu.numa_nodes) == (112, 56, 56, 2)
    assert cpu.native_bf16
    one_node = read_cpu(root, frozenset([*range(28), *range(56, 84)]))
    assert (one_node.usable_cores, one_node.allowed_logical_cores) == (28, 56)
    disk = read_disk(Path("/"), root)
    assert (disk.filesystem, disk.rotational) == ("xfs", True)


def test_cpus_that_are_switched_off_leave_gaps_in_the_numbers(tmp_path: Path) -> None:
    files = numa_server()
    blocks = files["proc/cpuinfo"].split("\n\n")
    root = machine(tmp_path, files | {"proc/cpuinfo": "\n\n".join(blocks[::2])})
    assert read_cpu(root, frozenset(range(0, 112, 2))).usable_cores == 28


def test_a_container_of_version_2_has_what_its_limits_say(tmp_path: Path) -> None:
    root = machine(tmp_path, container_v2())
    cpu = read_cpu(root, frozenset(range(32)))
    assert (cpu.usable_cores, cpu.quota_cores, cpu.allowed_logical_cores) == (2, 2.5, 8)
    memory = read_memory(root)
    assert (memory.total_bytes, memory.available_bytes, memory.limit_bytes) == (12 * GB, 10 * GB, 12 * GB)
    assert read_disk(Path("/"), root).filesystem == "overlay"


def test_a_container_of_version_1_has_what_its_limits_say(tmp_path: Path) -> None:
    root = machine(tmp_path, container_v1())
    cpu = read_cpu(root, frozenset(range(8)))
    assert (cpu.usable_cores, cpu.quota_cores, cpu.allowed_logical_cores) == (2, 1.5, 2)
    memory = read_memory(root)
    assert (memory.total_bytes, memory.available_bytes) == (2 * GB, GB // 2)


def test_a_cpuset_numbered_otherwise_than_the_affinity_is_passed_over(tmp_path: Path) -> None:
    root = machine(tmp_path, container_v2())
    assert read_cpu(root, frozenset({0, 1})).usable_cores == 2


def test_the_innermost_mount_counts_and_names_with_spaces_are_read(tmp_path: Path) -> None:
    (tmp_path / "my data").mkdir()
    folder = str(tmp_path / "my data").replace(" ", "\\040")
    root = machine(
        tmp_path / "root",
        {
            "proc/self/mountinfo": (
                "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
                f"2 1 0:44 / {folder} rw - btrfs /dev/nvme0n1p3 rw,subvol=/home\n"
                "a line that says nothing\n"
            ),
            "sys/devices/nvme0n1/queue/rotational": "0\n",
            "sys/devices/nvme0n1/nvme0n1p3/partition": "3\n",
            "sys/class/block/nvme0n1p3": "->../../devices/nvme0n1/nvme0n1p3",
        },
    )
    disk = read_disk(tmp_path / "my data" / "not there yet", root)
    assert (disk.filesystem, disk.rotational) == ("btrfs", False)
    assert read_disk(Path("/"), root).filesystem == "ext4"


@pytest.mark.parametrize(
    ("kind", "network", "memory"), [("nfs4", True, False), ("tmpfs", False, True), ("fuse.sshfs", True, False)]
)
def test_disks_that_are_elsewhere_or_nowhere_are_told(tmp_path: Path, kind: str, network: bool, memory: bool) -> None:
    root = machine(tmp_path, {"proc/self/mountinfo": f"1 0 0:44 / / rw - {kind} somewhere rw\n"})
    disk = read_disk(Path("/"), root)
    assert (disk.on_network, disk.in_memory, disk.rotational) == (network, memory, None)


def test_the_disk_of_a_virtual_machine_is_not_believed_to_turn(tmp_path: Path) -> None:
    files = {
        "proc/self/mountinfo": "1 0 254:1 / / rw - ext4 /dev/vda1 rw\n",
        "sys/devices/virtio/vda/queue/rotational": "1\n",
        "sys/devices/virtio/vda/vda1/partition": "1\n",
        "sys/dev/block/254:1": "->../../devices/virtio/vda/vda1",
    }
    assert read_disk(Path("/"), machine(tmp_path, files)).rotational is None
