"""Lists that are answered in pages: how many of the newest, and those before an entry's ``number``."""

from typing import Annotated

from msgspec import Meta

PAGE = 100
"""How many are told where nobody says."""
Limit = Annotated[int, Meta(ge=1, le=1000, description="how many at most")]
Before = Annotated[int, Meta(ge=1, le=2**62, description="only what is older than the entry with this `number`")] | None
