"""What anonymising does not find, in sentences that are true of what was asked for."""

from collections.abc import Collection, Sequence
from typing import Final

from btmd.privacy.finding import KEY, NAME, PHONE
from btmd.vocabulary import PERSONAL_DATA

_NO_NAMES: Final = (
    "Names of people are not found: no recogniser is installed. --list FILE replaces the names in a file."
)
_LISTED_NAMES: Final = (
    "Names of people are found only where your own lists and columns have them as they are written: no recogniser is "
    "installed."
)
_BY_CONTEXT: Final = (
    "Postal addresses, dates of birth, user names, faces and voices in descriptions, and anything that only the "
    "context gives away are not found."
)
_KEYS: Final = (
    "Keys and passwords are found by their known beginnings, by the word before them, or by looking random: a "
    "password that is a plain word is not."
)
_PHONES: Final = (
    "Phone numbers without a country code are found in the forms of the text's language (German, French, Spanish, "
    "Italian, English) or of a region that is named with --region."
)
_PHONES_OF_REGIONS: Final = (
    "Phone numbers without a country code are found in the forms of the text's language (German, French, Spanish, "
    "Italian, English) and of {regions}."
)


def limits_of(
    *,
    names_looked_for: bool,
    names_given: bool = False,
    regions: Sequence[str] = (),
    kept: Collection[str] = (),
) -> list[str]:
    """What stays. ``names_given``: by lists or columns, without a recogniser; ``kept``: kinds that were to stay."""
    said = []
    if kept:
        said.append(f"Left as they are, as was asked: {', '.join(PERSONAL_DATA.get(one, one) for one in kept)}.")
    if not names_looked_for and NAME not in kept:
        said.append(_LISTED_NAMES if names_given else _NO_NAMES)
    said.append(_BY_CONTEXT)
    if KEY not in kept:
        said.append(_KEYS)
    if PHONE not in kept:
        said.append(_PHONES_OF_REGIONS.format(regions=", ".join(regions)) if regions else _PHONES)
    return said
