"""Which preset suits this machine, and which suits one model and its data."""

import re
from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from btmd.domain.hardware import Hardware
from btmd.domain.model import ModelFacts
from btmd.domain.preset import DIFFICULTIES, Preset
from btmd.planning.memory import usable_bytes
from btmd.planning.row_kinds import PRESET_FOR_KIND
from btmd.planning.usual_models import USUAL_MODELS
from btmd.planning.verdict import by_rank, free_bytes, judge, needed_bytes

KIND_REASONS = {
    "text": "The data is plain text, and this preset is made for it.",
    "preference": "The data has chosen and rejected answers, and this preset compares them.",
}
CODE_NAME = re.compile(r"(?:^|[-_/.])(?:code|coder|codegen|starcoder|codellama)", re.IGNORECASE)
SIZE = re.compile(r"(?:^|[-_/.])(\d+(?:\.\d+)?)([bm])(?![a-z0-9])", re.IGNORECASE)
SIMPLEST_PRESET = "quick_test"
UNTOLD_WEIGHTS = 1.1e9
CHAT_NAME = re.compile(r"(?:^|[-_/.])(?:chat|instruct|it|dialo\w*)(?:$|[-_/.])", re.IGNORECASE)
_PART_OF_NAME = r"(?:^|[-_.])({})(?:$|[-_.])"
ENCODER_NAME = re.compile(
    _PART_OF_NAME.format(r"(?!robert[-_.])\w*bert(?:a|weet)?|electra|mpnet|minilm|longformer|bigbird"), re.IGNORECASE
)
"""BERT and what descends from it; all their names but a few end so."""
SEQ2SEQ_NAME = re.compile(_PART_OF_NAME.format(r"\w*t5|m?bart|pegasus|marian|nllb|opus-mt"), re.IGNORECASE)


def recommend(
    presets: Iterable[Preset], hardware: Hardware, model: ModelFacts | None = None
) -> list[tuple[Preset, str]]:
    """The presets, those that fit first and easy before hard, each with a verdict.

    Without a model the catalogue's memory figure is compared; with one, each preset is planned for it.
    """
    by_key = {preset.key: preset for preset in presets}
    judged = {key: judge(preset, hardware, model) for key, preset in by_key.items()}
    return [(by_key[key], judged[key].text) for key in by_rank(judged, by_key, DIFFICULTIES)]


def choose_preset(
    presets: Mapping[str, Preset], model: ModelFacts, hardware: Hardware, kind: str = "conversation"
) -> tuple[Preset, str]:
    """The preset for one model and rows of one kind here, with the reason. ``presets`` holds the built-in ones."""
    if kind in PRESET_FOR_KIND:
        return presets[PRESET_FOR_KIND[kind]], KIND_REASONS[kind]
    room = usable_bytes(free_bytes(hardware))

    def fits(key: str) -> bool:
        return key in presets and needed_bytes(presets[key], hardware, model) <= room

    if model.is_code and fits("code_assistant"):
        return presets["code_assistant"], "The model was made for code, and this preset fits the machine."
    if model.is_chat and hardware.gpus and fits("chat_fine_tune"):
        return presets["chat_fine_tune"], "The model was made for chat, and the GPU has room for all its weights."
    return presets[SIMPLEST_PRESET], "The quickest way to a first result; the other presets train longer."


def guess_preset(
    presets: Mapping[str, Preset], model_id: str, hardware: Hardware, *, is_here: bool = False
) -> tuple[Preset, str]:
    """The preset told from a model's id alone, marked as a guess; ``is_here`` for one that is refused, not missing."""
    size = SIZE.search(model_id)
    weights = float(size[1]) * (1e9 if size[2].lower() == "b" else 1e6) if size else UNTOLD_WEIGHTS
    usual = min(USUAL_MODELS, key=lambda model: abs(model.parameters - weights))
    told = replace(usual, is_code=bool(CODE_NAME.search(model_id)), is_chat=bool(CHAT_NAME.search(model_id)))
    preset, _ = choose_preset(presets, told, hardware)
    words = [word for word, is_so in (("code", told.is_code), ("chat", told.is_chat)) if is_so]
    words += [f"{size[1]}{size[2]}"] if size else []
    because = f"its name says {', '.join(words)}" if words else "its name says little"
    if is_here:
        return preset, f"The preset is only a guess: {because}."
    return preset, f"A guess, since this model is not on this machine: {because}. Add it for a better answer."


def why_untrainable_by_name(model_id: str) -> str:
    """Why a model of such a name is hardly one that can be trained here; nothing where the name does not say so."""
    name = model_id.rstrip("/").rpartition("/")[2]
    for pattern, what in (
        (ENCODER_NAME, "an encoder: it reads text but cannot write any"),
        (SEQ2SEQ_NAME, "a model that reads with an encoder and writes with a decoder"),
    ):
        found = pattern.search(name)
        if found is not None:
            return (
                f"By its name ({found[1]}) it is {what}, and such a model cannot be trained here. "
                "Use a model that writes text word by word; its architecture ends in ForCausalLM."
            )
    return ""
