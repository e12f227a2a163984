"""``--time`` and ``--devices``: how they are typed, and what they ask for."""

import pytest

from btmctl import training, words
from btmctl.commands import train
from btmctl.errors import UsageError
from btmctl.parser import Single


@pytest.mark.parametrize(
    ("typed", "seconds"), [("90s", 90), ("3m", 180), ("2h", 7200), ("1h30m", 5400), (" 1d ", 86_400), ("20s", 20)]
)
def test_a_time_is_a_number_with_its_unit_or_several(typed: str, seconds: float) -> None:
    assert words.time_limit_s(typed) == seconds


@pytest.mark.parametrize("typed", ["", "3", "m", "3 m", "-3m", "3.5h", "1h30", "3x", "m3", "19s", "0m", "9" * 30 + "m"])
def test_what_is_no_time_or_too_short_is_refused_with_an_example(typed: str) -> None:
    with pytest.raises(UsageError) as refused:
        words.time_limit_s(typed)
    assert refused.value.hint.startswith("--time ")


def test_train_takes_it() -> None:
    single = train.command()
    assert isinstance(single, Single)
    assert single.parser.parse_args(["m", "d", "--time", "3m"]).time == "3m"


@pytest.mark.parametrize(("typed", "device"), [("cpu", "cpu"), ("1", "cuda"), ("cuda:1", "cuda:1")])
def test_one_device_is_asked_for(typed: str, device: str) -> None:
    assert training._device(typed) == device


@pytest.mark.parametrize("typed", ["all", "2", "0,1", "cuda", "cuda:", "GPU"])
def test_several_devices_are_refused(typed: str) -> None:
    with pytest.raises(UsageError, match="cannot be trained on"):
        training._device(typed)
