"""Raised once, withdrawn once: what keeps a warning from coming and going with every reading."""

from msgspec import Struct


class Latch(Struct):
    """Holds once a condition has held ``to_raise`` times running, until it has not ``to_clear`` times running."""

    to_raise: int = 1
    to_clear: int = 1
    held: bool = False
    _against: int = 0

    def tell(self, holds: bool) -> bool:
        """One more reading; returns whether it is held now."""
        if holds == self.held:
            self._against = 0
            return self.held
        self._against += 1
        if self._against >= (self.to_clear if self.held else self.to_raise):
            self.held, self._against = holds, 0
        return self.held

    def reset(self) -> None:
        """Nothing is known any more."""
        self.held, self._against = False, 0


def above(value: float, *, raises: float, clears: float, held: bool) -> bool:
    """Whether ``value`` is too high: past ``raises``, and once that was so, until it is under ``clears``."""
    return value > (clears if held else raises)
