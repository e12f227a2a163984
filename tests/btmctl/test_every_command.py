"""The commands whose start is measured are all there are, and what is typed for each is understood."""

import argparse
import importlib

import pytest

from benchmarks.cli_commands import _BEFORE, ALONE, REFUSED, Command, every_command, filled
from btmctl.__main__ import COMMANDS
from btmctl.parser import Noun

EVERY = every_command()


def test_none_is_left_out_and_the_readers_are_known() -> None:
    for name in COMMANDS:
        command = importlib.import_module(f"btmctl.commands.{name}").command()
        verbs = {(name, verb) for verb in command.verbs} if isinstance(command, Noun) else {(name,)}
        assert verbs <= {one.words[: len(min(verbs))] for one in EVERY}
    reading = {one.name for one in EVERY if one.reads}
    assert {"jobs list", "models show", "config get", "presets history", "audit log", "backup list"} <= reading
    assert {"config diff", "config blame", "datasets versions", "events"} <= reading
    assert not reading & {"status", "jobs logs", "backup key list", "disk show", "daemon status"}


@pytest.mark.parametrize("one", EVERY, ids=lambda one: one.name)
def test_what_is_typed_is_understood(one: Command) -> None:
    made = {"job": "j1", "waiting": "w1", "folder": "/f", "number": "1"}
    for typed in (filled(one.before, **made), one.filled(**made)):
        if typed:
            command = importlib.import_module(f"btmctl.commands.{typed[0]}").command()
            assert callable(command.parse(typed[1:], argparse.Namespace()).run)
        assert not any(name in word for word in typed for name in ("JOB", "WAITING", "FOLDER", "NUMBER"))


def test_what_is_said_of_a_command_is_said_of_one_that_there_is() -> None:
    assert {*ALONE, *REFUSED, *_BEFORE} <= {one.name for one in EVERY}
