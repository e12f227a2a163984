"""What there is to say about one error code."""

from typing import NamedTuple


class Help(NamedTuple):
    """``title`` is what the error says first; a command in ``steps`` stands between backticks, as it would be typed.

    What depends on how btmd was installed stands in braces: ``{pip}``, ``{upgrade}``, ``{for_everybody}``;
    ``{units}`` is the folder of its service files.
    """

    title: str
    means: str
    why: str
    steps: tuple[str, ...]
