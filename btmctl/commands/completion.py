"""btmctl completion: what a shell needs to complete btmctl."""

import argparse

from btmctl.completion import SHELLS, script
from btmctl.errors import DONE
from btmctl.parser import Single
from btmctl.session import Session

WHERE = {
    "bash": "~/.local/share/bash-completion/completions/btmctl",
    "zsh": "~/.zfunc/_btmctl",
}


def command() -> Single:
    single = Single(
        "completion",
        run,
        "Prints a script with which the shell completes commands and options by itself, and names and ids of jobs,"
        " datasets, models, presets, settings and backups by asking the daemon. Make it anew after an upgrade.",
        ['eval "$(btmctl completion bash)"', *[f"btmctl completion {shell} > {file}" for shell, file in WHERE.items()]],
    )
    single.parser.add_argument("shell", choices=SHELLS, help="the shell that reads it")
    return single


def run(arguments: argparse.Namespace, session: Session) -> int:
    output = session.output
    made = script(arguments.shell)
    if output.as_json:
        output.document({"shell": arguments.shell, "script": made})
        return DONE
    output.raw(made)
    if output.is_terminal:
        output.say(f"This belongs into a file: btmctl completion {arguments.shell} > {WHERE[arguments.shell]}")
    return DONE
