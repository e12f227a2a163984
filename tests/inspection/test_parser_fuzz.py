"""Files of unknown origin: whatever stands in them, the parsers answer or refuse, and keep no memory.

``BTMD_PROOF=1`` feeds each parser for ten minutes (``BTMD_PROOF_S``) and records the figures.
"""

import os
import random
import struct
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from benchmarks.results import Figure, Topic, record
from btmd.errors import BtmdError, ModelDamaged, WrongArchitecture
from btmd.inspection.gguf_header import GgufHeader, read_gguf_header
from btmd.inspection.gguf_names import check_family, configuration, hugging_face_names
from btmd.inspection.safetensors_header import read_header
from btmd.inspection.weights import check_layers, linear_layers, main_dtype
from btmd.presets.reading import load_builtin_presets, parse_preset
from btmd.presets.text import rendered, written
from tests.fixtures.tiny_gguf import make_tiny_gguf
from tests.fixtures.tiny_model import make_tiny_llama

PROOF = bool(os.environ.get("BTMD_PROOF"))
PROOF_S = float(os.environ.get("BTMD_PROOF_S", "600"))
FILES = 400
WARM_UP = 100
"""Files after which what the interpreter caches is there."""
MOST_GROWTH_BYTES = 32 * 1024 * 1024
PRESETS = load_builtin_presets()
_SEED = 20_261_122
_NUMBERS = (0, 1, 7, 0xFF, 0x7FFF, 0xFFFF_FFFF, 0x8000_0000, 2**40, 2**63 - 1, 2**63, 2**64 - 1)
_WORDS = (
    b"null",
    b"-1",
    b"1e999",
    b"[" * 5000,
    b'"',
    b"{}",
    b"\xff\xfe",
    b"NaN",
    b'"\\ud800"',
    b"18446744073709551616",
    b'"""',
    b"[[a]]\n",
    b"a.b = 1\n",
    b"-inf",
    b"1979-05-27T07:32:00Z",
)


def read_gguf(path: Path) -> None:
    header = read_gguf_header(path)
    check_family(header)
    hugging_face_names(header)
    configuration(header, None)


def read_safetensors(path: Path) -> None:
    tensors = read_header(path).tensors
    main_dtype(tensors)
    linear_layers(tensors)
    check_layers(tensors, 2)


def read_preset(path: Path) -> None:
    text = path.read_bytes().decode("utf-8", "replace")
    parse_preset(text, path.name)
    # A person's text takes another preset's values; what is written then says exactly those.
    assert parse_preset(written(text, PRESETS["quick_test"], path.name), path.name) == PRESETS["quick_test"]


def spoiled(whole: bytes, head_bytes: int, draws: random.Random) -> bytes:
    """The file with one to four changes in its head: bits, numbers, words, pieces cut out, doubled or cut off."""
    content = bytearray(whole)
    for _ in range(draws.randint(1, 4)):
        at = draws.randrange(max(1, min(head_bytes, len(content))))
        match draws.randrange(7):
            case 0:
                content[at : at + 1] = bytes([draws.randrange(256)])
            case 1:
                content[at : at + 8] = struct.pack("<Q", draws.choice(_NUMBERS))
            case 2:
                content[at : at + 4] = struct.pack("<I", draws.choice(_NUMBERS) & 0xFFFF_FFFF)
            case 3:
                content[at : at + draws.randrange(9)] = draws.choice(_WORDS)
            case 4:
                del content[at : at + draws.randrange(1, 64)]
            case 5:
                content[at:at] = content[at : at + draws.randrange(1, 64)]
            case _:
                del content[at:]
    return bytes(content)


def feed(parse: Callable[[Path], None], whole: bytes, head_bytes: int, path: Path) -> tuple[int, int, int]:
    """Files read, files refused, and bytes by which this process grew after the warm-up."""
    draws = random.Random(_SEED)
    process = psutil.Process()
    end = time.monotonic() + PROOF_S
    count = refused = 0
    before = process.memory_info().rss
    while time.monotonic() < end if PROOF else count < FILES:
        path.write_bytes(spoiled(whole, head_bytes, draws))
        try:
            parse(path)
        except BtmdError:
            refused += 1
        count += 1
        if count == WARM_UP:
            before = process.memory_info().rss
    return count, refused, process.memory_info().rss - before


HOSTILE = {
    "a shape without end": b'{"a":{"dtype":"F32","shape":[1e999],"data_offsets":[0,4]}}',
    "half a row": b'{"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}',
    "a truth as a number": b'{"a":{"dtype":"F32","shape":[true],"data_offsets":[0,4]}}',
    "a type that is a list": b'{"a":{"dtype":["F32"],"shape":[1],"data_offsets":[0,4]}}',
    "a negative side": b'{"a":{"dtype":"F32","shape":[-1,-1],"data_offsets":[0,4]}}',
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_header_that_means_nothing_is_damage(what: str, tmp_path: Path) -> None:
    head = HOSTILE[what]
    (tmp_path / "m").write_bytes(len(head).to_bytes(8, "little") + head + b"\0\0\0\0")
    with pytest.raises(ModelDamaged):
        read_header(tmp_path / "m")


@pytest.mark.parametrize("layers", [10**15, -1, 0])
def test_layers_are_never_counted_up_to_what_a_file_says(layers: int, tmp_path: Path) -> None:
    path = make_tiny_gguf(make_tiny_llama(tmp_path / "m"), tmp_path / "whole.gguf")
    header = read_gguf_header(path)
    values = {**header.values, "llama.block_count": layers}
    with pytest.raises(ModelDamaged):
        hugging_face_names(GgufHeader(values, header.tensors, header.size_bytes))
    with pytest.raises(ModelDamaged):
        check_layers(read_header(tmp_path / "m" / "model.safetensors").tensors, layers)


@pytest.mark.parametrize(("key", "value"), [("general.architecture", [1]), ("split.count", [2]), ("split.count", "x")])
def test_a_value_of_another_type_than_it_should_have_is_refused(key: str, value: object, tmp_path: Path) -> None:
    header = read_gguf_header(make_tiny_gguf(make_tiny_llama(tmp_path / "m"), tmp_path / "whole.gguf"))
    with pytest.raises(WrongArchitecture):
        check_family(GgufHeader({**header.values, key: value}, header.tensors, header.size_bytes))


@pytest.mark.timeout(PROOF_S * 2 if PROOF else 300)
@pytest.mark.parametrize("kind", ["GGUF", "safetensors", "preset"])
def test_what_is_spoiled_is_read_or_refused(kind: str, tmp_path: Path) -> None:
    model = make_tiny_llama(tmp_path / "model", hidden=16, heads=2, kv_heads=1, vocab=300)
    if kind == "GGUF":
        parse, path = read_gguf, make_tiny_gguf(make_tiny_llama(tmp_path / "wide"), tmp_path / "whole.gguf")
        head_bytes = min(tensor.offset for tensor in read_gguf_header(path).tensors)
    elif kind == "preset":
        parse, path = read_preset, tmp_path / "small_gpu.toml"
        path.write_text(rendered(PRESETS["small_gpu"]))
        head_bytes = path.stat().st_size
    else:
        parse, path = read_safetensors, model / "model.safetensors"
        head_bytes = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    parse(path)
    count, refused, growth_bytes = feed(parse, path.read_bytes(), head_bytes, tmp_path / "spoiled")
    assert refused > count // 4, "nearly nothing was spoiled"
    assert growth_bytes < MOST_GROWTH_BYTES
    if PROOF:
        record(
            Topic(
                f"Parsers: spoiled {'presets' if kind == 'preset' else kind + ' headers'}",
                "make proof-parsers",
                [
                    Figure(f"files read within {PROOF_S:.0f} s", [count], digits=0),
                    Figure("refused in words", [refused], digits=0),
                    Figure("unhandled exceptions", [0], "", "<= 0", 0),
                    Figure("growth of the process", [growth_bytes / 1e6], "MB", "< 32"),
                ],
                notes=["Bits, numbers, words and pieces of a real one changed at random, one to four at a time."],
            )
        )
