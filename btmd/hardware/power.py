"""Whether the machine runs on mains or on a battery."""

from pathlib import Path

from btmd.domain.hardware import Power
from btmd.hardware.control_groups import read_text


def read_power(root: Path = Path("/")) -> Power:
    """The power source now; a machine without a battery that tells nothing runs on mains."""
    supplies = root / "sys/class/power_supply"
    batteries: list[tuple[str, int | None]] = []
    online: list[bool] = []
    for supply in sorted(supplies.glob("*")):
        kind = read_text(supply / "type").strip()
        # The battery of a mouse or a pen says that it belongs to a device.
        if read_text(supply / "scope").strip() == "Device":
            continue
        if kind == "Battery" and read_text(supply / "present").strip() != "0":
            charge = read_text(supply / "capacity").strip()
            batteries.append((read_text(supply / "status").strip(), int(charge) if charge.isdigit() else None))
        elif kind != "Battery" and (plugged := read_text(supply / "online").strip()):
            online.append(plugged != "0")
    if not batteries:
        return Power("mains" if supplies.is_dir() else "")
    charges = [charge for _, charge in batteries if charge is not None]
    percent = round(sum(charges) / len(charges)) if charges else None
    discharging = any(status == "Discharging" for status, _ in batteries)
    on_battery = discharging and not any(online) if online else discharging
    return Power("battery" if on_battery else "mains", percent)
