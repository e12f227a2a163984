"""Listed words and own patterns."""

import pytest

from btmd.errors import InvalidValue
from btmd.privacy.detectors import Detectors
from btmd.privacy.given import GivenWords
from btmd.privacy.own_patterns import OwnPattern


def places(text: str, *values: str, exact_case: bool = False) -> list[str]:
    words = GivenWords([("name", values)], exact_case=exact_case)
    return [text[one.start : one.end] for one in words.find(text)]


def test_whole_words_are_found_in_any_case() -> None:
    assert places("Ask ANNA or anna's friend, not Annabel or Hanna.", "Anna") == ["ANNA", "anna"]
    assert places("Ask ANNA or Anna.", "Anna", exact_case=True) == ["Anna"]


def test_groups_of_words_are_found_across_line_breaks_and_the_longest_wins() -> None:
    assert places("Mr Max\n Müller and Max", "Max", "Max Müller") == ["Max\n Müller", "Max"]
    assert places("Anna-Lena, Anna Lena", "Anna-Lena") == ["Anna-Lena"]


def test_accents_may_be_written_in_two_ways() -> None:
    assert places("Frau Mu\u0308ller", "Müller") == ["Mu\u0308ller"]


def test_one_listed_thing_is_one_value_in_all_spellings() -> None:
    values = {one.value for one in GivenWords([("name", ["Max Müller"])]).find("Max Müller, MAX MÜLLER, max\tmüller")}
    assert values == {"max müller"}


def test_single_letters_and_signs_are_not_looked_for() -> None:
    assert GivenWords([("name", ["", " ", "x", "--"])]).entries == 0


def test_own_patterns_come_before_the_detectors() -> None:
    found = Detectors(patterns=[OwnPattern("customer", r"K-\d{6}")]).find("K-030123 and K-12, 0171 1234567 anrufen")
    assert [(one.kind, one.value) for one in found] == [("customer", "K-030123"), ("phone", "+491711234567")]


@pytest.mark.parametrize("expression", ["(", "a*", "x" * 3000])
def test_a_pattern_that_is_none_is_refused(expression: str) -> None:
    with pytest.raises(InvalidValue):
        OwnPattern("customer", expression)


def test_a_pattern_that_never_ends_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("btmd.privacy.own_patterns.TIME_LIMIT_S", 0.2)
    pattern = OwnPattern("customer", r"(?:(a|aa)+)+(?<!a)$")
    with pytest.raises(InvalidValue, match="customer"):
        list(pattern.find("a" * 4000 + "b"))
