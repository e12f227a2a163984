"""All presets in one place: those that come with btmd, and those that people made."""

from collections.abc import Mapping

from btmd.domain.preset import Preset
from btmd.errors import Conflict, InvalidValue, UnknownPreset
from btmd.presets.reading import CHOOSE_KEY, find_preset
from btmd.projections.preset import PresetRow, own_presets
from btmd.store.event_log import Store

BUILT_IN, OWN = "built-in", "own"


class PresetReadOnly(Conflict):
    code, title = "preset_read_only", "This preset comes with btmd"


class NameTaken(Conflict):
    code, title = "name_taken", "Another preset is called so"


class PresetCatalogue:
    """Answers which presets there are. ``built_in`` are never changed; nobody's own can take their place."""

    def __init__(self, store: Store, built_in: Mapping[str, Preset]) -> None:
        self._store = store
        self.built_in = built_in

    async def all(self) -> dict[str, Preset]:
        """By key, those that come with btmd first."""
        return {**self.built_in, **{row.key: row.preset for row in await self.own_rows()}}

    async def behind(self, key: str | None) -> dict[str, Preset]:
        """Those that come after ``key`` in that order, which need not be there any more; all for None."""
        found = await self.all()
        if key is None:
            return found
        if key not in self.built_in:
            return {one.key: one for one in found.values() if one.key not in self.built_in and one.key > key}
        keys = list(found)
        return {one: found[one] for one in keys[keys.index(key) + 1 :]}

    async def own_rows(self) -> list[PresetRow]:
        async with self._store.session() as session:
            return [row for row in await own_presets(session) if row.key not in self.built_in]

    async def find(self, wanted: str) -> Preset:
        """By key or display name, in any case. Raises UnknownPreset with the nearest one."""
        return find_preset(await self.all(), wanted)

    async def require_choice(self, wanted: object) -> None:
        """Of the setting training.preset. Raises InvalidValue with the nearest name for a preset that is not there."""
        if not isinstance(wanted, str) or wanted == CHOOSE_KEY:
            return
        try:
            await self.find(wanted)
        except UnknownPreset as unknown:
            hint = f"{unknown.hint} {CHOOSE_KEY} chooses by model, data and machine."
            raise InvalidValue(f"training.preset cannot be set so. {unknown.detail}", hint=hint) from None

    async def own_row(self, key: str) -> PresetRow:
        """Raises UnknownPreset, PresetReadOnly."""
        self.require_own(key)
        for row in await self.own_rows():
            if row.key == key:
                return row
        raise UnknownPreset(
            f"There is no preset of your own called {key[:60]!r}.",
            hint="`btmctl presets list --all` shows those there are.",
        )

    def origin(self, key: str) -> str:
        return BUILT_IN if key in self.built_in else OWN

    def require_own(self, key: str) -> None:
        """Raises PresetReadOnly for the key of one that comes with btmd."""
        if key in self.built_in:
            raise PresetReadOnly(
                f"The preset {key} comes with btmd and stays as it is.",
                hint=f"`btmctl presets create KEY --from {key}` makes one of your own from it.",
            )

    async def require_free_name(self, preset: Preset) -> None:
        """Raises NameTaken where another preset is found by this one's name."""
        words = {preset.name.casefold()} - {preset.key.casefold()}
        for other in (await self.all()).values():
            if other.key != preset.key and words & {other.name.casefold(), other.key.casefold()}:
                raise NameTaken(
                    f"The preset {other.key} is called {preset.name!r} already.",
                    hint="Give this one another name: --set name=TEXT.",
                )
