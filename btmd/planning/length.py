"""Which lengths of rows a training could use, best first."""

from msgspec import Struct

from btmd.domain.preset import Preset
from btmd.domain.units import format_count
from btmd.errors import InvalidValue
from btmd.planning.plan import Source
from btmd.planning.request import TokenFacts

BUCKET_TOKENS = 64
LEFT_OUT_SHARE = 0.02
"""More rows than this share are not left out while the length can be raised."""
RAISED_LENGTH_LIMIT = 2048
SHORTEST = 64


class LengthOption(Struct, frozen=True):
    """A possible ``max_length``. ``needs_permission`` when it leaves out rows that the preset would train.

    ``is_raised`` when it takes in rows that the preset would leave out.
    """

    max_length: int
    source: Source
    reason: str
    needs_permission: bool = False
    is_raised: bool = False


def bucket(tokens: int) -> int:
    """The length rounded up to the next bucket."""
    return max(SHORTEST, -(-tokens // BUCKET_TOKENS) * BUCKET_TOKENS)


def asked_length(asked: int, context_length: int) -> LengthOption:
    """The user's own length. Raises InvalidValue when the model cannot read that far."""
    if asked > context_length:
        raise InvalidValue(
            f"max_length cannot be {asked}: this model reads at most {format_count(context_length, 'token')} at once.",
            hint=f"Use max_length={context_length} or less.",
        )
    return LengthOption(asked, "user", "As you asked.")


def length_options(preset: Preset, tokens: TokenFacts, context_length: int) -> list[LengthOption]:
    """The lengths to try, the one that serves the data best first; the last ones need permission."""
    base = min(preset.max_length, context_length)
    fitted = min(bucket(tokens.longest_row), context_length)
    if tokens.longest_row <= base:
        if fitted < base:
            reason = f"The longest row has {format_count(tokens.longest_row, 'token')}; more room would stay empty."
            options = [LengthOption(fitted, "data", reason)]
        else:
            options = [_preset_length(preset, base)]
    else:
        options = [*_raised(base, tokens, context_length), _preset_length(preset, base)]
    shortest_free = options[-1].max_length
    options += [
        LengthOption(
            shorter,
            "hardware",
            "Shorter than the preset's, as you allowed: longer rows do not fit.",
            needs_permission=True,
        )
        for shorter in (1024, 512, 384, 256, 128, SHORTEST)
        if shorter < shortest_free and tokens.left_out_rows(shorter) < tokens.rows
    ]
    return options


def _preset_length(preset: Preset, base: int) -> LengthOption:
    if base < preset.max_length:
        return LengthOption(base, "model", f"The preset asks for {preset.max_length}; the model reads at most {base}.")
    return LengthOption(base, "preset", "The preset's length.")


def _raised(base: int, tokens: TokenFacts, context_length: int) -> list[LengthOption]:
    """Longer lengths that leave out fewer rows, longest first; none when few enough are left out already."""
    left_out = tokens.left_out_rows(base)
    if left_out <= LEFT_OUT_SHARE * tokens.rows:
        return []
    limit = min(context_length, RAISED_LENGTH_LIMIT)
    steps = sorted(
        {
            length
            for length in (*tokens.over_long, 128, 256, 512, 1024, 2048, bucket(tokens.longest_row))
            if base < length <= limit
        }
    )
    options: list[LengthOption] = []
    for length in steps:
        still = tokens.left_out_rows(length)
        if still >= left_out:
            continue
        reason = f"Raised from {base}: {format_count(left_out, 'row is', 'rows are')} longer than that, " + (
            f"now only {still:,}." if still else "and all of them fit now."
        )
        options.append(LengthOption(length, "data", reason, is_raised=True))
        if still <= LEFT_OUT_SHARE * tokens.rows:
            break
    return options[::-1]
