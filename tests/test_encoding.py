"""Text becomes the same tokens as with transformers, and only what the assistant says is learned."""

import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from btmd.data.encoding import Counted, Encoded, EncodedPair, Encoder
from btmd.data.rows import Message, Row
from btmd.errors import BadTemplate, NotAModel, TemplateMismatch, TokenizerMissing
from tests.fixtures.tiny_model import CHATML_TEMPLATE, make_tokenizer

LLAMA_3 = """{{- bos_token }}
{%- if strftime_now is defined %}
    {%- set today = strftime_now("%d %b %Y") %}
{%- endif %}
{%- if messages[0].role == 'system' %}
    {%- set system = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system = "" %}
{%- endif %}
{{- "<|im_start|>system\\n\\nToday: " + today + "\\n" + system + "<|im_end|>" }}
{%- for message in messages %}
    {%- if message.role not in ['user', 'assistant'] %}
        {%- continue %}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n\\n' + message['content'] | trim + '<|im_end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n\\n' }}
{%- endif %}
"""

QWEN = """{%- if tools %}
    {{- 'tools: ' }}{% for tool in tools %}{{ tool | tojson }}{% endfor %}
{%- endif %}
{%- set ns = namespace(last=0) %}
{%- for message in messages %}
    {%- if message.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == 'assistant' and loop.index0 > ns.last %}
{{- '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' + message.content.lstrip('\\n') + '<|im_end|>\\n' }}
    {%- else %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

GEMMA = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}
{% for message in messages %}
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}
{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}
{{ '<|im_start|>' + role + '
' + message['content'] | trim + '<|im_end|>
' }}
{% endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>model
' }}{% endif %}"""

MISTRAL = """{{ bos_token }}{% for message in messages %}
    {%- if message.role == 'user' %}
        {{- ' [INST] ' + message.content + ' [/INST]' }}
    {%- elif message.role == 'assistant' %}
        {{- ' ' + message.content + eos_token }}
    {%- endif %}
{%- endfor %}"""

GENERATION = """{% for message in messages %}
{% if message.role == 'assistant' %}
<|im_start|>assistant
{% generation %}{{ message.content }}<|im_end|>{% endgeneration %}

{% else %}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endif %}
{% endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% endif %}"""

TEMPLATES = {
    "chatml": CHATML_TEMPLATE,
    "llama 3": LLAMA_3,
    "qwen": QWEN,
    "gemma": GEMMA,
    "mistral": MISTRAL,
    "generation mark": GENERATION,
}

TALK: list[Message] = [
    {"role": "user", "content": "Where do bees live?"},
    {"role": "assistant", "content": "Bees live in a hive — a “house” of wax 🐝."},
    {"role": "user", "content": "How many legs\nhas a spider?  "},
    {"role": "assistant", "content": "Eight."},
]


def model_folder(folder: Path, template: str | None) -> Path:
    make_tokenizer(folder, chat_template=template)
    return folder


def learned_text(encoder: Encoder, encoded: Encoded) -> list[str]:
    """The learned stretches, as text with its marks."""
    stretches: list[list[int]] = []
    before = False
    for token, learned in zip(encoded.input_ids, encoded.learned, strict=True):
        if learned:
            if not before:
                stretches.append([])
            stretches[-1].append(token)
        before = learned
    return [encoder._tokenizer.decode(ids, skip_special_tokens=False) for ids in stretches]


@pytest.fixture(scope="module")
def transformers_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model_folder(tmp_path_factory.mktemp("reference"), None))


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("turns", [1, 2, 3, 4])
def test_a_conversation_is_rendered_and_tokenised_as_by_transformers(
    name: str, turns: int, tmp_path: Path, transformers_tokenizer: Any
) -> None:
    encoder = Encoder.load(model_folder(tmp_path, TEMPLATES[name]))
    asks = turns % 2 == 1
    transformers_tokenizer.chat_template = TEMPLATES[name]
    expected = transformers_tokenizer.apply_chat_template(TALK[:turns], tokenize=False, add_generation_prompt=asks)
    assert encoder.render(TALK[:turns], add_generation_prompt=asks) == expected
    ids = transformers_tokenizer.apply_chat_template(TALK[:turns], add_generation_prompt=asks)["input_ids"]
    if asks:
        assert encoder.prompt_ids(TALK[:turns]) == ids
    else:
        assert encoder.encode({"line": 1, "messages": TALK[:turns]}).input_ids == ids


@pytest.mark.parametrize("name", ["chatml", "llama 3", "gemma", "generation mark"])
def test_each_answer_is_learned_with_its_end_mark_and_nothing_else(name: str, tmp_path: Path) -> None:
    encoder = Encoder.load(model_folder(tmp_path, TEMPLATES[name]))
    encoded = encoder.encode({"line": 1, "messages": TALK})
    assert learned_text(encoder, encoded) == [TALK[1]["content"] + "<|im_end|>", "Eight.<|im_end|>"]


def test_an_answer_after_an_inst_mark_is_learned_with_the_end_of_sequence(tmp_path: Path) -> None:
    encoder = Encoder.load(model_folder(tmp_path, MISTRAL))
    encoded = encoder.encode({"line": 1, "messages": TALK})
    assert learned_text(encoder, encoded) == [" " + TALK[1]["content"] + "<|im_end|>", " Eight.<|im_end|>"]


def test_a_template_that_renders_earlier_answers_differently_still_gets_the_right_mask(tmp_path: Path) -> None:
    encoder = Encoder.load(model_folder(tmp_path, QWEN))
    encoded = encoder.encode({"line": 1, "messages": TALK})
    assert learned_text(encoder, encoded) == [
        TALK[1]["content"] + "<|im_end|>",
        "<think>\n\n</think>\n\nEight.<|im_end|>",
    ]


def test_the_prompt_is_the_beginning_of_what_was_trained_on(tmp_path: Path) -> None:
    encoder = Encoder.load(model_folder(tmp_path, CHATML_TEMPLATE))
    prompt = encoder.prompt_ids(TALK[:1])
    encoded = encoder.encode({"line": 1, "messages": TALK[:2]})
    assert encoded.input_ids[: len(prompt)] == prompt
    assert encoded.learned.index(True) == len(prompt)


def test_a_template_that_rewrites_the_past_is_refused(tmp_path: Path) -> None:
    system_last = (
        "{% for m in messages %}{% if m.role != 'system' %}"
        "{{ '<|im_start|>' + m.role + ' ' + (messages[0].content if loop.last else '') + m.content + '<|im_end|>' }}"
        "{% endif %}{% endfor %}"
    )
    encoder = Encoder.load(model_folder(tmp_path, system_last))
    with pytest.raises(TemplateMismatch) as refusal:
        encoder.encode({"line": 1, "messages": [{"role": "system", "content": "Be kind."}, *TALK]})
    assert "bees" not in refusal.value.detail.lower()


def test_roles_the_template_refuses_are_refused_in_words(tmp_path: Path) -> None:
    encoder = Encoder.load(model_folder(tmp_path, GEMMA))
    with pytest.raises(TemplateMismatch, match="roles must alternate"):
        encoder.encode({"line": 1, "messages": [TALK[0], TALK[2]]})


def test_a_template_that_quotes_a_message_in_its_complaint_gives_nothing_away(tmp_path: Path) -> None:
    telltale = CHATML_TEMPLATE + "{% if messages | length > 2 %}{{ raise_exception(messages[0].content) }}{% endif %}"
    encoder = Encoder.load(model_folder(tmp_path, telltale))
    with pytest.raises(TemplateMismatch) as refusal:
        encoder.render(TALK)
    assert "bees" not in refusal.value.detail.lower()


def test_a_conversation_without_an_answer_has_nothing_learned(tmp_path: Path) -> None:
    encoder = Encoder.load(model_folder(tmp_path, CHATML_TEMPLATE))
    assert not any(encoder.encode({"line": 1, "messages": TALK[:1]}).learned)


def test_plain_text_is_learned_whole_and_ends(tmp_path: Path) -> None:
    encoder = Encoder.load(model_folder(tmp_path, CHATML_TEMPLATE))
    encoded = encoder.encode({"line": 1, "text": "Bees live in a hive."})
    assert encoder.decode(encoded.input_ids) == "Bees live in a hive."
    assert encoded.input_ids[-1] in encoder.eos_ids
    assert encoded.learned == [False] + [True] * (len(encoded.input_ids) - 1)


def test_a_model_without_a_template_gets_headings(tmp_path: Path) -> None:
    encoder = Encoder.load(model_folder(tmp_path, None))
    assert encoder.template_kind == "plain"
    assert encoder.render(TALK[:1], add_generation_prompt=True) == "### User:\nWhere do bees live?\n### Assistant:\n"
    encoded = encoder.encode({"line": 1, "messages": TALK})
    assert learned_text(encoder, encoded) == [TALK[1]["content"] + "<|im_end|>", "Eight.<|im_end|>"]


def test_the_date_in_a_prompt_is_the_one_given(tmp_path: Path) -> None:
    encoder = Encoder.load(model_folder(tmp_path, LLAMA_3), now=datetime(2026, 2, 3))
    assert "Today: 03 Feb 2026" in encoder.render(TALK)


def test_end_tokens_come_from_every_file_that_names_one(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, CHATML_TEMPLATE)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, 7]}))
    encoder = Encoder.load(folder)
    turn_end = encoder._tokenizer.token_to_id("<|im_end|>")
    assert encoder.eos_ids == {0, 7, turn_end}


def test_a_template_file_wins_over_the_one_in_the_configuration(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, CHATML_TEMPLATE)
    (folder / "chat_template.jinja").write_text(GEMMA)
    assert "model\n" in Encoder.load(folder).render(TALK[:2])


@pytest.mark.parametrize(
    "escape",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{% set ns = namespace(__init__=1) %}",
        "{{ cycler.__init__.__globals__ }}",
    ],
)
def test_a_template_cannot_reach_out_of_its_sandbox(tmp_path: Path, escape: str) -> None:
    with pytest.raises(BadTemplate):
        Encoder.load(model_folder(tmp_path, CHATML_TEMPLATE + escape))


@pytest.mark.parametrize("template", ["{% for %}", "{{ raise_exception('never') }}", "{{ messages[9].content }}"])
def test_a_broken_template_is_refused_when_the_model_is_loaded(tmp_path: Path, template: str) -> None:
    with pytest.raises(BadTemplate):
        Encoder.load(model_folder(tmp_path, template))


def test_a_missing_or_damaged_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenizerMissing):
        Encoder.load(tmp_path)
    folder = model_folder(tmp_path, CHATML_TEMPLATE)
    whole = (folder / "tokenizer.json").read_bytes()
    (folder / "tokenizer.json").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TokenizerMissing):
        Encoder.load(folder)


def test_a_configuration_that_is_not_json_is_refused(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, CHATML_TEMPLATE)
    (folder / "tokenizer_config.json").write_text("{")
    with pytest.raises(NotAModel):
        Encoder.load(folder)


def test_tokens_named_only_in_the_configuration_are_marks_as_in_transformers(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = model_folder(tmp_path, CHATML_TEMPLATE)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["added_tokens_decoder"] = {
        "480": {
            "content": "<|extra|>",
            "special": True,
            "normalized": False,
            "lstrip": False,
            "rstrip": False,
            "single_word": False,
        }
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    row: Row = {"line": 1, "messages": [{"role": "user", "content": "a<|extra|>b"}, TALK[1]]}
    reference: Any = AutoTokenizer.from_pretrained(folder)
    expected = reference.apply_chat_template(row["messages"])["input_ids"]
    assert Encoder.load(folder).encode(row).input_ids == expected


def test_importing_it_loads_neither_torch_nor_transformers() -> None:
    code = "import sys, btmd.data.encoding; print(int('torch' in sys.modules or 'transformers' in sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code]).strip() == b"0"


@pytest.mark.parametrize("template", [CHATML_TEMPLATE, LLAMA_3, QWEN, None])
def test_rows_are_counted_as_they_are_encoded(template: str | None, tmp_path: Path) -> None:
    make_tokenizer(tmp_path, chat_template=template)
    encoder = Encoder.load(tmp_path)
    contents = ["", "Yes.", "naïve 日本語 😀 “quoted”", "two\n\nlines  and   spaces ", "<|im_end|> in it", "word " * 40]
    rows: list[Row] = [
        {"line": 1, "messages": [Message(role=role, content=content) for role, content in turns]}
        for one in contents
        for other in contents
        for turns in (
            [("user", one), ("assistant", other)],
            [("system", one), ("user", other), ("assistant", one), ("user", one), ("assistant", other)],
            [("user", one)],
        )
    ]
    rows += [{"line": 1, "text": content} for content in contents]
    for row, counted in zip(rows, encoder.count_many(rows), strict=True):
        try:
            encoded = encoder.encode(row)
        except TemplateMismatch:
            assert isinstance(counted, TemplateMismatch)
        else:
            assert counted == Counted(len(encoded.input_ids), sum(encoded.learned))
    pairs: list[Row] = [
        row | {"rejected": [*row["messages"][:-1], Message(role="assistant", content="Never.")]}  # type: ignore[typeddict-item]
        for row in rows
        if "messages" in row and len(row["messages"]) > 1
    ]
    for both, counted_both in zip(encoder.encode_pairs(pairs), encoder.count_pairs(pairs), strict=True):
        if isinstance(both, EncodedPair):
            assert counted_both == tuple(
                Counted(len(side.input_ids), sum(side.learned)) for side in (both.chosen, both.rejected)
            )
        else:
            assert isinstance(counted_both, TemplateMismatch)


@pytest.mark.parametrize("template", [CHATML_TEMPLATE, LLAMA_3, QWEN, GEMMA, None])
def test_answers_stand_where_rendering_every_beginning_finds_them(
    template: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tokenizer(tmp_path, chat_template=template)
    contents = [
        "",
        " ",
        "Yes.",
        "Yes. ",
        "\nno",
        "<|im_end|> in it",
        "<think>hm</think> so",
        "Yes.",
        "\ue0000\ue001",
        "é😀",
    ]
    shapes = [
        ("user", "assistant"),
        ("system", "user", "assistant"),
        ("user", "assistant", "user", "assistant"),
        ("user", "assistant", "assistant"),
        ("assistant", "user"),
        ("user", "user", "assistant", "user"),
    ]
    rows: list[Row] = [
        {
            "line": 1,
            "messages": [Message(role=role, content=contents[(start + 3 * at) % 10]) for at, role in enumerate(shape)],
        }
        for shape in shapes
        for start in range(10)
    ]
    quick = Encoder.load(tmp_path).encode_many(rows)
    monkeypatch.setattr(Encoder, "_skeleton", lambda *_: None)
    slow = Encoder.load(tmp_path).encode_many(rows)
    assert [str(one) for one in quick] == [str(one) for one in slow]
    assert any(isinstance(one, Encoded) and any(one.learned) for one in quick)
