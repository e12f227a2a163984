#!/usr/bin/env bash
# Runs inside the booted container; see run.sh.
set -Eeuo pipefail
steps=$1
shift
python=/opt/btmd/bin/python3 btmctl=/opt/btmd/bin/btmctl
home=/home/tester runtime=/run/user/4711
units=/etc/systemd/system own_units=/home/tester/.config/systemd/user
cd /
# An interpreter that was built for another folder looks for its library there first, where the service sees nothing.
echo /opt/python/lib > /etc/ld.so.conf.d/00-btmd.conf
ldconfig

say() { echo "--- $*"; }
as_tester() { runuser -u tester -- env HOME=$home XDG_RUNTIME_DIR=$runtime PYTHONDONTWRITEBYTECODE=1 "$@"; }
tester_btmctl() { as_tester $btmctl "$@"; }
field() { $python -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }
# Until the command succeeds: $1 seconds.
within() {
    local end=$((SECONDS + $1)); shift
    until "$@"; do
        [ $SECONDS -lt $end ] || { echo "waited in vain: $*" >&2; return 1; }
        sleep 0.3
    done
}
alive() { kill -0 "$1" 2>/dev/null; }
gone() { ! alive "$1"; }
locks() { systemd-inhibit --list --no-legend 2>/dev/null | grep -cE 'btmd.* (sleep|idle) .*block' || true; }
has_locks() { [ "$(locks)" = "$1" ]; }
trap 'journalctl --no-pager -u btmd -u btmd.socket -n 80 || true; as_tester journalctl --user -u btmd --no-pager -n 60 || true;
    systemctl status btmd --no-pager || true; systemctl list-jobs --no-pager || true' ERR

# What a person of this machine owns: a tiny model and rows, behind the closed door of a home.
given() {
    [ -e $home/tiny ] && return
    as_tester env PYTHONPATH=/opt/source $python -c 'from pathlib import Path
from tests.fixtures.daemon import rows
from tests.fixtures.tiny_model import make_tiny_llama
make_tiny_llama(Path("/home/tester/tiny"))
Path("/home/tester/rows.jsonl").write_bytes(rows())'
}
# A training of the tester, by whichever daemon btmctl finds for them: prints its id.
begin() {
    tester_btmctl models add $home/tiny --name tiny --json >/dev/null
    tester_btmctl datasets add $home/rows.jsonl --name facts --consent --yes --json >/dev/null
    tester_btmctl train tiny facts --preset quick_test --set num_epochs=1000 --set max_steps="$steps" --set eval_every=0 \
        --set save_every=100000 --yes --json | field job_id
}
job() { tester_btmctl jobs show "$1" --json | field "$2"; }
job_is() { [ "$(job "$1" "$2")" = "$3" ]; }
job_steps() { [ "$(job "$1" step)" -ge "$2" ]; }
trainer_of() { field pid < "$1/jobs/$2/pid"; }
checkpoints() { ls "$1/jobs/$2/checkpoints" 2>/dev/null | grep . ; }
no_checkpoint() { ! checkpoints "$1" "$2" >&2; }
# Warnings do not change the exit code of `systemd-analyze verify`: nothing may be said of ours.
understood() {
    local said
    said=$("$@" 2>&1) && [[ $said != *btmd* ]] || { echo "$said" >&2; return 1; }
}

check_units() {
    say "units are understood, and the system's is closed"
    $btmctl daemon install --system --no-start
    understood systemd-analyze verify --man=no $units/btmd.service $units/btmd.socket $units/btmd-devices.service
    systemd-analyze security --no-pager --threshold=10 btmd.service | tail -1
    say "so are the drop-ins that come with it"
    for example in /opt/source/btmctl/units/examples/*.conf; do
        mkdir -p $units/btmd.service.d; cp "$example" $units/btmd.service.d/
        understood systemd-analyze verify --man=no $units/btmd.service
        rm -r $units/btmd.service.d
    done
    $btmctl daemon uninstall --system >/dev/null
    [ ! -e $units/btmd.service ]
}

main_pid() { systemctl show btmd -p MainPID --value; }
restarted() { local now; now=$(main_pid); [ "$now" != 0 ] && [ "$now" != "$1" ] && systemctl is-active --quiet btmd; }
value_is() { [ "$($btmctl config get "$1" --json | field value)" = "$2" ]; }

check_system() {
    given
    say "install beside a drop-in"
    mkdir -p $units/btmd.service.d
    # So many starts in a minute are this check's alone.
    printf '[Unit]\nStartLimitIntervalSec=0\n[Service]\nWatchdogSec=20\n' > $units/btmd.service.d/mine.conf
    $btmctl daemon install --system
    [ "$(stat -c %a:%U /run/btmd/btmd.sock)" = 666:btmd ]
    [ "$(stat -c %a:%U /var/lib/btmd)" = 700:btmd ]
    [ "$(stat -c %a:%U /etc/btmd)" = 750:btmd ]
    [ "$(systemctl show btmd -p WatchdogUSec --value)" = 20s ]

    say "a request starts it, and waits until it is ready"
    systemctl stop btmd.service
    [ "$(systemctl is-active btmd.socket)" = active ]
    $btmctl daemon status
    [ "$(systemctl is-active btmd)" = active ]
    say "nobody else gets in before they are granted a role"
    code=0; tester_btmctl models list || code=$?; [ $code = 4 ]
    $btmctl access grant tester trainer
    [ "$(stat -c %a /run/btmd/btmd.sock)" = 666 ]
    $btmctl config set training.tick_every_s=0.1 training.threads=1 recovery.wait_s=0.2

    say "a user with a closed home trains"
    job=$(begin)
    within 400 job_steps "$job" 5
    trainer=$(trainer_of /var/lib/btmd "$job")
    [ "$(tail -n +3 "/proc/$trainer/net/dev" | cut -d: -f1 | tr -d ' ')" = lo ]
    within 120 sh -c "systemctl show btmd -p StatusText --value | grep '$job.*step'"
    within 180 has_locks 2

    say "restart: the trainer $trainer goes on"
    before=$(main_pid); systemctl restart btmd; restarted "$before"; alive "$trainer"
    say "a crash is put right, the trainer goes on"
    before=$(main_pid); kill -KILL "$before"; within 300 restarted "$before"; alive "$trainer"
    say "a daemon that stands still is ended by the watchdog, the trainer goes on"
    before=$(main_pid); kill -STOP "$before"; within 300 restarted "$before"; alive "$trainer"
    journalctl --no-pager -u btmd | grep 'Watchdog timeout' >/dev/null
    job_is "$job" attempt 1
    no_checkpoint /var/lib/btmd "$job"

    say "reload reads the settings anew"
    within 120 test -e /etc/btmd/settings.toml
    $python -c 'from pathlib import Path
p = Path("/etc/btmd/settings.toml"); t = p.read_text(); p.write_text(t.replace("# seed = 42", "seed = 77")) '
    grep -q '^seed = 77' /etc/btmd/settings.toml
    before=$(main_pid); systemctl reload btmd
    # A change of the file is noticed without it, too: that it was done is what the daemon says.
    within 60 sh -c "journalctl --no-pager -u btmd | grep 'were read anew'"
    within 60 value_is training.seed 77
    [ "$before" = "$(main_pid)" ]

    say "a stop saves a checkpoint and ends the trainer; it goes on by itself"
    no_checkpoint /var/lib/btmd "$job"
    $btmctl daemon stop
    gone "$trainer"
    [ "$(systemctl is-active btmd.socket || true)" = inactive ]
    [ "$(systemctl show btmd -p Result --value)" = success ]
    checkpoints /var/lib/btmd "$job"
    $btmctl daemon start
    within 300 job_is "$job" attempt 2
    [ "$(tester_btmctl events --type JobYielded --json | grep -c '"JobYielded"')" = 1 ]

    say "the keys are opened by a credential that is sealed to this machine"
    mkdir -p /etc/credstore.encrypted
    head -c 32 /dev/urandom | systemd-creds encrypt --with-key=host --name=btmd-backup-key - /etc/credstore.encrypted/btmd-backup-key
    cp /opt/source/btmctl/units/examples/key.conf $units/btmd.service.d/
    systemctl daemon-reload; systemctl restart btmd
    $btmctl backup create
    $btmctl backup verify last
    grep -q credential /var/lib/btmd/keys/ring
    rm -f /var/lib/btmd/keys/key
    systemctl restart btmd; $btmctl backup verify last

    say "the training completes, and what was learned is taken home"
    tester_btmctl jobs stop "$job"
    within 400 job_is "$job" state completed
    [ -n "$(tester_btmctl chat "$job" --prompt 'What is 2 plus 2?')" ]
    tester_btmctl consent grant facts --scope export --yes
    tester_btmctl jobs export "$job" --format adapter --out $home/taken
    [ "$(stat -c %U $home/taken/adapter_model.safetensors)" = tester ]
    within 180 has_locks 0

    say "a daemon with a user-made change is not written over; drop-ins and state stay"
    echo '# mine' >> $units/btmd.socket
    code=0; $btmctl daemon install --system || code=$?; [ $code = 6 ]
    sed -i '/^# mine$/d' $units/btmd.socket
    $btmctl daemon install --system
    $btmctl daemon uninstall --system
    [ ! -e $units/btmd.service ]; [ -e $units/btmd.service.d/mine.conf ]; [ -e /var/lib/btmd/btmd.db ]
    rm -r $units/btmd.service.d; systemctl daemon-reload
}

login() {
    systemd-run --quiet --unit=login-"$1" -p PAMName=login -p User=tester -p StandardInput=null sleep infinity
    within 300 test -S $runtime/systemd/private
}
logout() { systemctl stop login-"$1"; }
logged_out() { systemctl show user@4711 -p ActiveState --value | grep -E '^(inactive|failed)$' >/dev/null; }
user_pid() { as_tester systemctl --user show btmd -p MainPID --value; }

check_user() {
    given
    say "a user's own daemon, without lingering"
    login 1
    as_tester mkdir -p $own_units/btmd.service.d
    as_tester sh -c "printf '[Service]\nWatchdogSec=90\n' > $own_units/btmd.service.d/mine.conf"
    tester_btmctl daemon install --user --no-linger 2>&1 | grep 'enable-linger' >/dev/null
    understood as_tester systemd-analyze --user verify --man=no $own_units/btmd.service $own_units/btmd.socket \
        $own_units/btmd-notify.service
    [ "$(as_tester systemctl --user show btmd -p WatchdogUSec --value)" = "1min 30s" ]
    [ "$(stat -c %a $runtime/btmd/btmd.sock)" = 600 ]
    tester_btmctl config set training.tick_every_s=0.1 training.threads=1 recovery.wait_s=0.2
    job=$(begin)
    within 400 job_steps "$job" 5
    state=$home/.local/state/btmd
    trainer=$(trainer_of $state "$job")
    before=$(user_pid); as_tester systemctl --user restart btmd; [ "$before" != "$(user_pid)" ]; alive "$trainer"
    no_checkpoint $state "$job"
    say "logging out ends it, with a checkpoint; at the next login it goes on"
    logout 1
    within 300 logged_out
    gone "$trainer"
    checkpoints $state "$job"
    login 2
    within 300 job_is "$job" attempt 2
    say "with lingering, logging out changes nothing"
    as_tester loginctl enable-linger || loginctl enable-linger tester
    within 400 job_is "$job" state training
    trainer=$(trainer_of $state "$job")
    logout 2
    sleep 20
    alive "$trainer"
    tester_btmctl jobs stop "$job"
    within 400 job_is "$job" state completed
    job_is "$job" attempt 2
    say "uninstall leaves the state"
    tester_btmctl daemon uninstall --user | grep "state, stays" >/dev/null
    [ ! -e $own_units/btmd.service ]; [ -e $own_units/btmd.service.d/mine.conf ]; [ -e $state/btmd.db ]
}

for part in "$@"; do "check_$part"; done
echo "all checks passed"
