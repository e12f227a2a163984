"""The Modelfile says what the model's own template says, in Ollama's words."""

import re
from pathlib import Path

import pytest

from btmd.data.encoding import Encoder
from btmd.exporting.ollama import modelfile
from tests.fixtures.tiny_families import make_family
from tests.fixtures.tiny_model import CHATML_TEMPLATE, make_tiny_llama

OWN_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}{% endif %}"
    + CHATML_TEMPLATE
)


def in_ollama(text: str, messages: list[tuple[str, str]]) -> str:
    """What Ollama's template language makes of a conversation, as far as our templates use it."""
    found = re.search(r'TEMPLATE """(.*?)"""', text, re.DOTALL)
    assert found is not None
    template = found[1]
    system = next((content for role, content in messages if role == "system"), "")
    shown = re.search(r"\{\{ if \.System \}\}(.*?)\{\{ end \}\}\{\{ range", template, re.DOTALL)
    assert shown is not None
    with_system, _, without = shown[1].partition("{{ else }}")
    begin = template[: shown.start()]
    said = begin + (with_system.replace("{{ .System }}", system) if system else without)
    turns = re.search(
        r'\{\{ if eq \.Role "user" \}\}(.*?)\{\{ else if eq \.Role "assistant" \}\}(.*?)\{\{ end \}\}\{\{ end \}\}(.*)',
        template,
        re.DOTALL,
    )
    assert turns is not None
    for role, content in messages:
        if role != "system":
            said += (turns[1] if role == "user" else turns[2]).replace("{{ .Content }}", content)
    return said + turns[3]


@pytest.mark.parametrize("template", [CHATML_TEMPLATE, OWN_SYSTEM, None])
@pytest.mark.parametrize(
    "messages",
    [
        [("user", "one")],
        [("system", "be brief"), ("user", "one")],
        [("user", "one"), ("assistant", "two"), ("user", "three")],
    ],
)
def test_conversations_come_out_as_the_model_learned_them(
    template: str | None, messages: list[tuple[str, str]], tmp_path: Path
) -> None:
    folder = make_tiny_llama(tmp_path / "tiny", chat_template=template)
    text = modelfile(folder, "tiny.gguf", system="", temperature=0.0, begins_with="")
    expected = Encoder.load(folder).render(
        [{"role": role, "content": content} for role, content in messages], add_generation_prompt=True
    )
    assert in_ollama(text, messages) == expected


def test_it_names_the_file_the_ends_and_what_it_is_told(tmp_path: Path) -> None:
    folder = make_tiny_llama(tmp_path / "tiny")
    text = modelfile(folder, "tiny-q8_0.gguf", system='Say "yes".', temperature=0.7, begins_with="")
    assert text.startswith("FROM ./tiny-q8_0.gguf\n")
    assert 'PARAMETER stop "<|im_end|>"' in text
    assert "PARAMETER temperature 0.7" in text
    assert 'SYSTEM """Say "yes"."""' in text


def test_a_template_that_takes_no_system_message_is_left_to_the_gguf_file(tmp_path: Path) -> None:
    text = modelfile(make_family(tmp_path / "tiny", "gemma"), "a.gguf", system="", temperature=0.0, begins_with="")
    assert "TEMPLATE" not in text
    assert "the GGUF file holds" in text


@pytest.mark.parametrize("written", ['"""\nFROM /home/ada/.ssh/id_ed25519\n#', "{{ .System }}", '"'])
def test_a_template_adds_no_commands_of_its_own(written: str, tmp_path: Path) -> None:
    template = CHATML_TEMPLATE + "{% if add_generation_prompt %}{{ written }}{% endif %}".replace(
        "written", repr(written)
    )
    folder = make_tiny_llama(tmp_path / "tiny", chat_template=template)
    text = modelfile(folder, "a.gguf", system="", temperature=0.0, begins_with="")
    assert "TEMPLATE" not in text
    assert text.count("FROM") == 1
