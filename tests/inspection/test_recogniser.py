"""Names are found where a recogniser of them is installed, and only there."""

import importlib.util
import sys
from importlib import metadata
from pathlib import Path

import pytest

from btmd.inspection import recogniser
from btmd.privacy.detectors import Detectors
from btmd.privacy.masked import replace


def test_without_a_recogniser_nothing_is_imported_and_names_are_left() -> None:
    if importlib.util.find_spec("spacy") is not None:
        pytest.skip("a recogniser is installed")
    assert recogniser.pipelines() == []
    assert recogniser.recogniser_of_names() is None


def test_an_installed_pipeline_finds_persons_and_no_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spacy = pytest.importorskip("spacy")
    pipeline = spacy.blank("xx")
    pipeline.add_pipe("entity_ruler").add_patterns(
        [{"label": "PER", "pattern": "Erika Gabler"}, {"label": "LOC", "pattern": "Ulm"}]
    )
    (tmp_path / "small_names").mkdir()
    pipeline.to_disk(tmp_path / "small_names" / "model")
    loading = "from pathlib import Path\nimport spacy\n\n\ndef load(**given):\n"
    loading += "    return spacy.load(Path(__file__).parent / 'model', **given)\n"
    (tmp_path / "small_names" / "__init__.py").write_text(loading)
    monkeypatch.syspath_prepend(str(tmp_path))
    point = metadata.EntryPoint("small_names", "small_names", "spacy_models")
    monkeypatch.setattr(recogniser.metadata, "entry_points", lambda group: [point])
    # spaCy asks whether it is an installed distribution, which this one is not.
    monkeypatch.setattr("spacy.util.is_package", lambda name: name == "small_names")
    detectors = Detectors(names=recogniser.recogniser_of_names())
    replaced = replace("Mit Erika Gabler in Ulm.", detectors.find)
    sys.modules.pop("small_names", None)
    assert replaced is not None
    assert [one.value for one in replaced.new] == ["erika gabler"]
