"""Names of people, where a recogniser of them is installed: a spaCy pipeline with entities. Nothing is fetched."""

import importlib.util
from collections.abc import Iterator
from importlib import metadata
from typing import Any, Final

from btmd.privacy.detectors import Names
from btmd.privacy.finding import NAME, Finding
from btmd.privacy.masked import MARK

_GROUP: Final = "spacy_models"
"""The entry points that installed pipelines have."""
_PERSONS: Final = ("PER", "PERSON")
_LONGEST_TEXT: Final = 100_000
_LEAST_LENGTH: Final = 3


def pipelines() -> list[str]:
    """The installed pipelines by name, multilingual ones first; looked up without importing anything."""
    if importlib.util.find_spec("spacy") is None:
        return []
    return sorted((one.name for one in metadata.entry_points(group=_GROUP)), key=lambda one: (one[:3] != "xx_", one))


def recogniser_of_names() -> Names | None:
    """Finds names with the installed pipelines that know persons; None where there is none."""
    loaded = [one for one in map(_loaded, pipelines()) if one is not None]
    return _Recogniser(loaded) if loaded else None


def _loaded(name: str) -> Any | None:
    import spacy  # type: ignore[import-not-found]

    pipeline = spacy.load(name)
    knows = {
        label for part in ("ner", "entity_ruler") if part in pipeline.pipe_names for label in _labels(pipeline, part)
    }
    return pipeline if knows.intersection(_PERSONS) else None


def _labels(pipeline: Any, part: str) -> tuple[str, ...]:
    return tuple(pipeline.get_pipe(part).labels)


class _Recogniser:
    def __init__(self, loaded: list[Any]) -> None:
        self._pipelines = loaded

    def __call__(self, text: str) -> Iterator[Finding]:
        for start in range(0, len(text), _LONGEST_TEXT):
            piece = text[start : start + _LONGEST_TEXT]
            for pipeline in self._pipelines:
                for entity in pipeline(piece).ents:
                    if entity.label_ in _PERSONS and _is_name(entity.text):
                        first, last = start + entity.start_char, start + entity.end_char
                        yield Finding(first, last, NAME, " ".join(entity.text.casefold().split()))


def _is_name(text: str) -> bool:
    return len(text) >= _LEAST_LENGTH and MARK not in text and any(map(str.isalpha, text))
