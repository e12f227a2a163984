"""Words that a given answer shares with the wanted one."""

import pytest

from btmd.trainer.overlap import Overlap, overlap, words


@pytest.mark.parametrize(
    ("given", "wanted", "f1", "exact"),
    [
        ("The bell stands in the wood.", "the BELL stands, in the wood", 1.0, 1.0),
        ("the wood", "The bell stands in the wood.", 0.5, 0.0),
        ("no idea", "forty-two", 0.0, 0.0),
        ("", "forty-two", 0.0, 0.0),
        ("!", "?", 1.0, 1.0),
        ("the the the the", "the cat", 1 / 3, 0.0),
        ("东京是首都", "东京", 4 / 7, 0.0),
        ("Größe Öl", "größe ÖL", 1.0, 1.0),
    ],
)
def test_shared_words(given: str, wanted: str, f1: float, exact: float) -> None:
    found = overlap([(given, wanted)])
    assert found is not None
    assert (found.f1, found.exact) == (pytest.approx(f1), exact)


def test_the_score_is_the_mean_over_all_answers() -> None:
    assert overlap([("a b", "a b"), ("a", "c")]) == Overlap(0.5, 0.5)
    assert overlap([]) is None
    assert words("It's 3.5 km_long") == ["it", "s", "3", "5", "km", "long"]
