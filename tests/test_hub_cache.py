"""An id of the local Hugging Face cache stands for one folder of it, wherever the cache was put."""

import os
from pathlib import Path

import pytest

from btmd.hub_cache import cached_ids, cached_model, hub_cache, is_hub_id


def put(cache: Path, hub_id: str, revision: str, *, main: str | None = None) -> Path:
    folder = cache / ("models--" + hub_id.replace("/", "--"))
    snapshot = folder / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    if main is not None:
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / "main").write_text(main)
    return snapshot


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"HF_HUB_CACHE": "/a/hub", "HF_HOME": "/b"}, "/a/hub"),
        ({"HF_HOME": "/b"}, "/b/hub"),
        ({"XDG_CACHE_HOME": "/c", "HOME": "/h"}, "/c/huggingface/hub"),
        ({"HOME": "/h"}, "/h/.cache/huggingface/hub"),
    ],
)
def test_the_cache_lies_where_the_libraries_look(environment: dict[str, str], expected: str) -> None:
    assert hub_cache(environment) == Path(expected)


def test_the_main_branch_is_meant_else_the_newest(tmp_path: Path) -> None:
    older = put(tmp_path, "org/name", "a" * 40, main="a" * 40)
    put(tmp_path, "org/name", "b" * 40)
    assert cached_model(tmp_path, "org/name") == older
    first, second = put(tmp_path, "org/no.main", "c" * 40), put(tmp_path, "org/no.main", "d" * 40)
    os.utime(first, (1, 1))
    os.utime(second, (2, 2))
    assert cached_model(tmp_path, "org/no.main") == second
    assert cached_ids(tmp_path) == ["org/name", "org/no.main"]
    assert cached_model(tmp_path, "org/other") is None
    assert cached_ids(tmp_path / "nothing") == []


def test_what_leads_out_of_the_cache_is_no_id(tmp_path: Path) -> None:
    for text in ("../x", "a/../b", "a/b/c", "name", "/etc/x", "a/b\0", "-a/b", ""):
        assert not is_hub_id(text)
    put(tmp_path, "org/name", "a" * 40, main="../../../x")
    assert cached_model(tmp_path, "org/name") == tmp_path / "models--org--name" / "snapshots" / ("a" * 40)
