#!/bin/sh
# Installs btmd from this folder into a virtual environment, without a network. sh install.sh --help says how.
set -eu
umask 022
unset PYTHONPATH PYTHONHOME
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)

usage() {
    cat <<'END'
sh install.sh [--to DIR] [--bin DIR] [--python PATH] [--check]

  --to DIR       the virtual environment (default: ~/.local/share/btmd/program; for root /opt/btmd)
  --bin DIR      where links to btmd and btmctl go (default: ~/.local/bin; for root /usr/local/bin)
  --python PATH  the Python to use (default: one of the right version on PATH)
  --check        only check the files of this folder
END
}

fail() { # what, what helps
    printf '%s\n' "$1" >&2
    if [ -n "${2:-}" ]; then printf '%s\n' "$2" >&2; fi
    exit "${3:-1}"
}

if [ "$(id -u)" = 0 ]; then
    to=/opt/btmd bin=/usr/local/bin
else
    to=${XDG_DATA_HOME:-${HOME:?}/.local/share}/btmd/program bin=$HOME/.local/bin
fi
python='' check=no
while [ $# -gt 0 ]; do
    case $1 in
        --to | --bin | --python)
            [ $# -gt 1 ] || fail "$1 takes a value." 'sh install.sh --help' 2
            case $1 in --to) to=$2 ;; --bin) bin=$2 ;; --python) python=$2 ;; esac
            shift 2
            ;;
        --check) check=yes; shift ;;
        -h | --help) usage; exit 0 ;;
        *) fail "$1 is not known here." 'sh install.sh --help' 2 ;;
    esac
done

printf 'Checking the files...\n'
said=$(cd "$here" && sha256sum -c SHA256SUMS 2>&1) ||
    fail "Files of this folder are damaged or missing:
$(printf '%s\n' "$said" | grep -v ': OK$')" 'Copy the folder here once more; nothing was installed.' 7
if [ $check = yes ]; then
    printf 'All files are as they were made.\n'
    exit 0
fi

read -r version platform libc room_kb <"$here/built-for"
about='import sys, sysconfig; print("%d.%d" % sys.version_info[:2], sysconfig.get_platform())'
fits() { [ "$("$1" -I -c "$about" 2>/dev/null)" = "$version $platform" ]; }
if [ -n "$python" ]; then
    fits "$python" || fail "$python is not Python $version for $platform." \
        'Make a folder on a machine like this one, with the same Python.' 6
else
    for one in "python$version" python3 python; do
        if fits "$one"; then python=$one; break; fi
    done
    [ -n "$python" ] || fail "There is no Python $version for $platform on PATH, and these packages are made for that." \
        'Name one with --python PATH, or make a folder on a machine like this one, with the same Python.' 6
fi

newer='import platform, sys
numbers = lambda text: [int(one) for one in text.split(".")]
sys.exit(numbers(platform.libc_ver()[1] or "0.0") < numbers(sys.argv[1]))'
"$python" -I -c "$newer" "$libc" || fail "This system has an older C library than glibc $libc, which these packages need." \
    'Make a folder on a machine like this one.' 6

case $to in /*) ;; *) to=$PWD/$to ;; esac
case $bin in /*) ;; *) bin=$PWD/$bin ;; esac
if [ -e "$to" ] && [ ! -e "$to/pyvenv.cfg" ] && [ ! -e "$to/.unfinished" ] && [ -n "$(ls -A "$to")" ]; then
    fail "$to is there already and is no virtual environment." 'Name another place: --to DIR' 6
fi
if [ -e "$to/bin/python" ] && ! fits "$to/bin/python"; then
    fail "The program in $to runs with another Python than $version." \
        "Remove it (rm -r $to; trainings, results and settings lie elsewhere), then run this again." 6
fi
mkdir -p "$to" "$bin"
free_kb=$(df -Pk "$to" | awk 'NR == 2 { print $4 }')
before=''
if [ -x "$to/bin/btmd" ]; then before=$("$to/bin/btmd" --version 2>/dev/null) || before=unknown; fi
if [ -z "$before" ] && [ "$free_kb" -lt "$room_kb" ]; then
    fail "$to has $((free_kb / 1024)) MB of room; btmd takes $((room_kb / 1024))." 'Free some, or name another place: --to DIR' 6
fi

# What an earlier run left half done cannot be told from what is whole: all of it is put there anew.
again=''
if [ -e "$to/.unfinished" ]; then again=--force-reinstall; fi
: >"$to/.unfinished"
printf 'Installing into %s...\n' "$to"
"$python" -m venv --without-pip "$to"
# The versions were chosen when the folder was made, so that there is nothing left to resolve.
PIP_CONFIG_FILE=/dev/null "$to/bin/python" "$(echo "$here"/wheels/pip-*.whl)/pip" --isolated --disable-pip-version-check \
    install --quiet --no-cache-dir --no-index --find-links "$here/wheels" --no-deps $again --requirement "$here/requirements.txt" ||
    fail 'pip could not install the packages; what it said stands above.' 'Run it again once that is put right.'
now=$("$to/bin/btmd" --version)
rm -f "$to/.unfinished"
# For what btmctl says when something of it is missing.
printf '%s\n' "$here" >"$to/btmd-installed-from"

for name in btmd btmctl; do
    link=$bin/$name
    if [ -L "$link" ] && [ "$(readlink "$link")" = "$to/bin/$name" ]; then continue; fi
    if [ -e "$link" ] || [ -L "$link" ]; then
        printf '%s is another one and stays; this one is %s.\n' "$link" "$to/bin/$name"
    else
        ln -s "$to/bin/$name" "$link"
    fi
done

if [ -n "$before" ]; then
    printf '%s is installed (before: %s). A daemon that runs takes it up with: btmctl daemon restart\n' "$now" "$before"
else
    printf '%s is installed. Try it: btmctl quickstart. Your own data: btmctl daemon install, then btmctl train MODEL FILE\n' "$now"
fi
case :$PATH: in
    *":$bin:"*) ;;
    *) printf '%s is not on your PATH: export PATH="%s:$PATH"\n' "$bin" "$bin" ;;
esac
