"""A command as a person types it, taken apart as a shell would, without a shell."""

import shlex

from btmd.errors import InvalidValue


def parse_command(text: str) -> list[str]:
    """The words of a command; none for an empty text. Raises InvalidValue for a quotation that does not end."""
    try:
        return shlex.split(text)
    except ValueError as problem:
        raise InvalidValue(
            f"The command cannot be taken apart: {str(problem).lower()}.", hint="Quotation marks come in pairs."
        ) from None
