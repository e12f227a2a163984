#!/usr/bin/env bash
# Boots a real systemd over a throw-away copy of this machine's files and checks both services in it, as the system's and as a
# user's: started by the first request, ready, a training, the locks that keep the machine awake, the watchdog, restarts that
# leave the trainer running, a stop with a checkpoint, reading anew, a sealed key, logging out with and without lingering,
# installing and removing beside drop-ins, units that are understood and closed. Needs root and systemd-nspawn.
# PARTS="units system user" chooses. A few minutes on a machine that has nothing else to do. 0: all holds; 2: it cannot be
# checked here, and why is said; anything else: it does not hold.
set -euo pipefail

repo=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-$repo/.venv/bin/python}
limit_s=${LIMIT_S:-3000}
parts=${PARTS:-units system user}
steps=${STEPS:-20000}

[ "$(id -u)" = 0 ] || { echo "run.sh needs root: it mounts and boots a container." >&2; exit 2; }
# It is a copy of this machine that is booted: all of it has to be here.
missing=()
need() { # the Debian package, then where one of its files may lie
    local package=$1 path; shift
    for path in "$@"; do [ ! -e "$path" ] || return 0; done
    missing+=("$package")
}
need systemd-container "$(command -v systemd-nspawn || true)"
need systemd /usr/lib/systemd/systemd /lib/systemd/systemd
need dbus /usr/bin/dbus-daemon /usr/bin/dbus-broker-launch
need polkitd /usr/lib/polkit-1/polkitd /usr/libexec/polkitd /usr/libexec/polkit-1/polkitd
need libpam-systemd {/usr,}/lib/*/security/pam_systemd.so {/usr,}/lib{,64}/security/pam_systemd.so
need passwd "$(command -v useradd || true)"
[ "${#missing[@]}" = 0 ] || { echo "Not all is here that is booted: apt-get install ${missing[*]}" >&2; exit 2; }

scratch=$(mktemp -d /tmp/btmd-systemd.XXXXXX)
tidy() {
    umount "$scratch/root" 2>/dev/null || true
    umount "$scratch/layer" 2>/dev/null || true
    rm -rf "$scratch"
}
trap tidy EXIT
mkdir "$scratch/layer" "$scratch/root" "$scratch/out"
cannot() { echo "$1 cannot be mounted here, as in most containers: nothing can be booted." >&2; exit 2; }
mount -t tmpfs -o size=3g tmpfs "$scratch/layer" || cannot "A tmpfs"
mkdir "$scratch/layer/upper" "$scratch/layer/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$scratch/layer/upper,workdir=$scratch/layer/work" "$scratch/root" ||
    cannot "An overlay"
root=$scratch/root

# An ordinary user, whose home is closed to everybody else.
chroot "$root" useradd --create-home --uid 4711 --shell /bin/bash tester
chmod 700 "$root/home/tester"
# The program where everybody can read it, as an administrator would install it: /opt/btmd. Interpreter and packages are those
# of this machine, bound in; ours is a copy.
base=$("$python" -c 'import sys; print(sys.base_prefix)')
site=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
version=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
mkdir -p "$root/opt/python" "$root/opt/site" "$root/opt/source" "$root/opt/btmd/bin" "$root/opt/btmd/lib/$version/site-packages"
for part in btmd btmctl migrations presets tests systemd; do cp -r "$repo/$part" "$root/opt/source/"; done
chmod -R go+rX "$root/opt/source" "$root/opt/btmd"; chmod go+rx "$root/opt" "$root/opt/python" "$root/opt/site"
printf 'home = /opt/python/bin\n' > "$root/opt/btmd/pyvenv.cfg"
ln -s "/opt/python/bin/$version" "$root/opt/btmd/bin/python3"
printf '/opt/source\n/opt/site\n' > "$root/opt/btmd/lib/$version/site-packages/btmd.pth"
printf '#!/bin/sh\nexec /opt/btmd/bin/python3 -P -m btmctl "$@"\n' > "$root/opt/btmd/bin/btmctl"
chmod 755 "$root/opt/btmd/bin/btmctl"

cat > "$root/etc/systemd/system/btmd-check.service" <<UNIT
[Unit]
After=multi-user.target
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=oneshot
TimeoutStartSec=infinity
StandardOutput=file:/out/log
StandardError=inherit
Environment=PYTHONDONTWRITEBYTECODE=1
ExecStart=/bin/bash /opt/source/tests/systemd/check.sh $steps $parts
UNIT
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
# Nothing of the host but systemd itself and logins.
for wanted in "$root"/etc/systemd/system/multi-user.target.wants/*; do rm -f "$wanted"; done
ln -sf /etc/systemd/system/btmd-check.service "$root/etc/systemd/system/multi-user.target.wants/"
: > "$root/etc/fstab"

SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 timeout "$limit_s" systemd-nspawn --quiet -b -D "$root" --register=no --keep-unit \
    -M "btmd-test-$$" --private-network --bind="$scratch/out:/out" --bind-ro="$base:/opt/python" --bind-ro="$site:/opt/site" \
    --console=pipe </dev/null >"$scratch/out/console" 2>&1 || true
cat "$scratch/out/log" 2>/dev/null || tail -40 "$scratch/out/console"
grep -q '^all checks passed$' "$scratch/out/log"
