#!/usr/bin/env bash
# Boots a real systemd over a throw-away copy of this machine's files and checks the user unit in it: ready, a
# training, the locks of logind that keep the machine awake for it, a restart that leaves the trainer running, a crash that
# is put right. Needs root and systemd-nspawn.
set -euo pipefail

repo=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-$repo/.venv/bin/python}
limit_s=${LIMIT_S:-400}

[ "$(id -u)" = 0 ] || { echo "run.sh needs root: it mounts and boots a container." >&2; exit 2; }
command -v systemd-nspawn >/dev/null || { echo "systemd-nspawn is missing: apt-get install systemd-container" >&2; exit 2; }

scratch=$(mktemp -d /tmp/btmd-systemd.XXXXXX)
tidy() {
    umount "$scratch/root" 2>/dev/null || true
    umount "$scratch/layer" 2>/dev/null || true
    rm -rf "$scratch"
}
trap tidy EXIT
mkdir "$scratch/layer" "$scratch/root" "$scratch/out"
mount -t tmpfs -o size=2g tmpfs "$scratch/layer"
mkdir "$scratch/layer/upper" "$scratch/layer/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$scratch/layer/upper,workdir=$scratch/layer/work" "$scratch/root"
root=$scratch/root

# An ordinary user, and folders that this user may pass through (only in the copy).
chroot "$root" useradd --create-home --uid 4711 --shell /bin/bash tester 2>/dev/null || true
base=$("$python" -c 'import sys; print(sys.base_prefix)')
for folder in "$repo" "$base"; do
    while [ "$folder" != / ]; do chmod o+x "$root$folder"; folder=$(dirname "$folder"); done
done
unit=$root/home/tester/.config/systemd/user/btmd.service
mkdir -p "$(dirname "$unit")"
sed "s|^ExecStart=btmd$|ExecStart=$python -m btmd|" "$repo/systemd/btmd.service" > "$unit"
chroot "$root" chown -R tester: /home/tester
# The rule that docs/sleep.md names, for this user: a daemon without a session may not keep the machine awake otherwise.
mkdir -p "$root/etc/polkit-1/rules.d"
sed 's/== "btmd"/== "tester"/' "$repo/systemd/50-btmd-sleep.rules" > "$root/etc/polkit-1/rules.d/50-btmd-sleep.rules"
mkdir -p "$root/var/lib/systemd/linger" && touch "$root/var/lib/systemd/linger/tester"

cat > "$root/etc/systemd/system/btmd-check.service" <<UNIT
[Unit]
After=multi-user.target user@4711.service
Wants=user@4711.service
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=oneshot
StandardOutput=file:/out/log
StandardError=inherit
ExecStart=/bin/bash $repo/tests/systemd/check.sh $repo $python
UNIT
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -sf /etc/systemd/system/btmd-check.service "$root/etc/systemd/system/multi-user.target.wants/"
# Nothing of the host but systemd itself and logins.
for wanted in "$root"/etc/systemd/system/multi-user.target.wants/*; do
    [ "$(basename "$wanted")" = btmd-check.service ] || rm -f "$wanted"
done
: > "$root/etc/fstab"

SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 timeout "$limit_s" systemd-nspawn --quiet -b -D "$root" --register=no --keep-unit \
    -M "btmd-test-$$" --private-network --bind="$scratch/out:/out" --console=pipe </dev/null >"$scratch/out/console" 2>&1 || true
cat "$scratch/out/log" 2>/dev/null || tail -40 "$scratch/out/console"
grep -q '^all checks passed$' "$scratch/out/log"
