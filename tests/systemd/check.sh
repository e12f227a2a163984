#!/usr/bin/env bash
# Runs inside the booted container; see run.sh.
set -euo pipefail
repo=$1 python=$2
export XDG_RUNTIME_DIR=/run/user/4711
as_user() { runuser -u tester -- env XDG_RUNTIME_DIR=$XDG_RUNTIME_DIR HOME=/home/tester PYTHONDONTWRITEBYTECODE=1 "$@"; }
say() { echo "--- $*"; }
main_pid() { as_user systemctl --user show btmd -p MainPID --value; }
trap 'as_user journalctl --user -u btmd --no-pager -n 60 || true; as_user systemctl --user status btmd --no-pager || true' ERR

for _ in $(seq 100); do as_user systemctl --user is-system-running 2>/dev/null | grep -qE 'running|degraded' && break; sleep 0.2; done
say "verify"; as_user systemd-analyze --user verify /home/tester/.config/systemd/user/btmd.service
say "start: returns only when the daemon is ready"
as_user systemctl --user start btmd
[ "$(as_user systemctl --user is-active btmd)" = active ]
[ "$(stat -c %a $XDG_RUNTIME_DIR/btmd/btmd.sock)" = 600 ]
as_user systemctl --user show btmd -p StatusText --value | grep -q btmd.sock
first=$(main_pid)

cd "$repo"
locks() { systemd-inhibit --list --no-legend 2>/dev/null | grep -c btmd || true; }
[ "$(locks)" = 0 ]
say "a training"
job=$(as_user "$python" -m tests.systemd.train begin $XDG_RUNTIME_DIR/btmd/btmd.sock /home/tester)
trainer=$(as_user "$python" -m tests.systemd.train trainer $XDG_RUNTIME_DIR/btmd/btmd.sock "$job")
say "the machine is kept awake: locks of logind, allowed by the rule of docs/sleep.md"
for _ in $(seq 100); do [ "$(locks)" = 2 ] && break; sleep 0.2; done
systemd-inhibit --list --no-legend | grep btmd
[ "$(systemd-inhibit --list --no-legend | grep btmd | grep -cE ' (sleep|idle) .*block')" = 2 ]
say "restart: the trainer $trainer goes on"
as_user systemctl --user restart btmd
second=$(main_pid)
[ "$first" != "$second" ]
kill -0 "$trainer"
say "a crash of the daemon is put right, the trainer goes on"
kill -KILL "$second"
for _ in $(seq 100); do third=$(main_pid); [ "$third" != 0 ] && [ "$third" != "$second" ] && break; sleep 0.2; done
[ "$third" != "$second" ]
for _ in $(seq 100); do [ "$(as_user systemctl --user is-active btmd)" = active ] && break; sleep 0.2; done
kill -0 "$trainer"
say "the job completes in its first attempt, every step reported once"
as_user "$python" -m tests.systemd.train finish $XDG_RUNTIME_DIR/btmd/btmd.sock "$job"
say "the locks are gone with the training"
for _ in $(seq 100); do [ "$(locks)" = 0 ] && break; sleep 0.2; done
[ "$(locks)" = 0 ]
say "the watchdog is answered"
watchdog() { as_user systemctl --user show btmd -p WatchdogTimestampMonotonic --value; }
before=$(watchdog)
for _ in $(seq 80); do [ "$(watchdog)" != "$before" ] && break; sleep 0.5; done
[ "$(watchdog)" != "$before" ]
say "stop"
as_user systemctl --user stop btmd
[ "$(as_user systemctl --user show btmd -p Result --value)" = success ]
echo "all checks passed"
