"""Replacing is consistent, and replacing what was replaced changes nothing."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from btmd.privacy.detectors import Detectors
from btmd.privacy.masked import MARK, New, numbers_in_use, replace

FIND = Detectors().find


def named(new: New) -> str:
    return f"[{new.kind.upper()}_1]"


def test_what_was_found_stands_as_a_placeholder_and_the_rest_is_as_it_was() -> None:
    replaced = replace("Mail bob@example.com or [EMAIL_7], tel 0171 1234567.", FIND)
    assert replaced is not None
    assert replaced.text(named) == "Mail [EMAIL_1] or [EMAIL_7], tel [PHONE_1]."
    assert [one.kind for one in replaced.new] == ["email", "phone"]


def test_nothing_found_is_nothing_changed() -> None:
    assert replace("Nothing here, [EMAIL_3] apart.", FIND) is None


def test_numbers_of_placeholders_are_told() -> None:
    assert list(numbers_in_use("[EMAIL_3] [CUSTOMER_NO_12] [x_1] [EMAIL]")) == [("email", 3), ("customer_no", 12)]


PIECES = st.sampled_from(
    [
        *("bob@example.com", "0171 1234567", "030 ", "4111 1111 1111 1111", "DE89370400440532013000", "10.1.2.3", "["),
        *(
            "2001:db8::5:6:7",
            "password: hunter2",
            "Tel ",
            "order ",
            "Nummer",
            " ",
            "-",
            "/",
            ".",
            ",",
            "\n",
            "+49",
            "(0)",
        ),
        *(
            "[EMAIL_1]",
            "[PHONE_12]",
            MARK,
            "x12",
            "1",
            "99",
            "@",
            ":",
            "]",
            "(at)",
            "example.com",
            "sk-",
            "a",
            "Ü",
            "€",
        ),
    ]
)


@settings(max_examples=300, deadline=None)
@example(["0171 1234567", "030 ", "1", "99"])
@given(st.lists(PIECES, max_size=14))
def test_a_second_run_changes_nothing(pieces: list[str]) -> None:
    text = "".join(pieces)
    replaced = replace(text, FIND)
    if replaced is None:
        return
    assert replace(replaced.text(named), FIND) is None
    # Not even when the placeholders have other, longer numbers.
    assert replace(replaced.text(lambda new: f"[{new.kind.upper()}_123456]"), FIND) is None


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200))
def test_any_text_can_be_looked_through(text: str) -> None:
    replaced = replace(text, FIND)
    assert replaced is None or replace(replaced.text(named), FIND) is None
