"""Each family of models is understood from its files alone, planned, and takes a training step."""

from pathlib import Path
from typing import Any

import pytest

from btmd.data.encoding import Encoder
from btmd.errors import NothingToLearn, WrongArchitecture
from btmd.frames import Finished, Tick, TrainingShape
from btmd.inspection.model import inspect_model
from btmd.inspection.tokens import measure
from btmd.job_folder import JobFolder
from btmd.jobs.trainer_plan import to_trainer_plan
from btmd.planning import TokenFacts
from btmd.registry.models import domain_facts
from tests.fixtures.tiny_families import FAMILIES, make_family, make_roberta
from tests.planning.given import plan
from tests.trainer.here import only, train_here
from tests.trainer.job import frames_of, write_rows

CHAT: Any = {
    "line": 1,
    "messages": [
        {"role": "user", "content": "Where do bees live?"},
        {"role": "assistant", "content": "In a hive."},
        {"role": "user", "content": "And spiders?"},
        {"role": "assistant", "content": "In the wood."},
    ],
}


def inspected(folder: Path) -> Any:
    return inspect_model(folder, tokenizer_folder=None, progress=lambda _share, _text: None)


def learned_text(encoder: Encoder, row: Any) -> str:
    encoded = encoder.encode(row)
    tokens = [token for token, learned in zip(encoded.input_ids, encoded.learned, strict=True) if learned]
    return "".join(encoder.token_texts(tokens))


# peft turns the adapters of GPT-2's transposed layers round by itself, and says so.
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_planned_and_takes_a_step_with_what_btmd_chose(family: str, tmp_path: Path) -> None:
    expected = FAMILIES[family]
    folder = make_family(tmp_path / "model", family)
    facts = inspected(folder)
    assert (facts.family, facts.linear_layers) == (family, expected.linear_layers)
    assert facts.has_chat_template is (expected.template is not None)
    assert facts.template_problem == ""

    encoder = Encoder.load(folder)
    learned = "".join(learned_text(encoder, CHAT).split())
    thought = "<think></think>" if family == "qwen3" else ""
    # Phi-3's own template closes the whole conversation with the end of text.
    closed = "<|im_end|>" if family == "phi3" else ""
    assert learned == f"Inahive.{expected.turn_end}{thought}Inthewood.{expected.turn_end}{closed}"

    rows = tmp_path / "rows.jsonl"
    sha256 = write_rows(rows, count=12)
    measured = measure(rows, folder, max_length=None, progress=lambda _share, _text: None)
    assert measured.rows_refused == measured.rows_nothing_learned == 0
    tokens = TokenFacts(measured.rows, measured.tokens_total, measured.learned_tokens, measured.longest)
    made = plan(model=domain_facts(facts), tokens=tokens, max_steps=1, threads=1, precision="fp32", sample_answers=1)
    job = JobFolder(tmp_path / "job")
    job.create(
        to_trainer_plan(
            made,
            job_id="abcdefghij",
            store_id="s",
            epoch=1,
            model_folder=folder,
            rows_path=rows,
            rows_sha256=sha256,
            tick_every_s=0.0,
        )
    )
    train_here(job)
    frames = frames_of(job)
    assert [tick.step for tick in only(Tick, frames)] == [1]
    assert only(Finished, frames)
    (shape,) = only(TrainingShape, frames)
    assert shape.implementation == expected.implementation
    assert adapted_layers(job) == set(expected.linear_layers)


def adapted_layers(job: JobFolder) -> set[str]:
    """Last parts of the names of the layers whose adapters were moved by the step."""
    from safetensors.numpy import load_file

    (path,) = job.path.rglob("adapter_model.safetensors")
    tensors = load_file(path)
    # B begins at zero: where it is not zero any more, the layer was trained.
    return {name.split(".")[-3] for name, tensor in tensors.items() if ".lora_B." in name and tensor.any()}


BREAKS = {
    "it leaves the answers out": "{% for m in messages if m['role'] == 'user' %}{{ m['content'] + '\n' }}{% endfor %}",
    "it puts the newest turn first": "{% for m in messages | reverse %}{{ m['content'] + '<|im_end|>' }}{% endfor %}",
}


@pytest.mark.parametrize("how", BREAKS)
def test_a_template_that_breaks_the_mask_is_refused_with_the_reason(how: str, tmp_path: Path) -> None:
    folder = make_family(tmp_path / "model", "qwen2", template=BREAKS[how])
    facts = inspected(folder)
    assert facts.template_problem
    assert facts.template_problem in facts.warnings
    rows = tmp_path / "rows.jsonl"
    write_rows(rows, count=12)
    with pytest.raises(NothingToLearn) as refusal:
        measure(rows, folder, max_length=None, progress=lambda _share, _text: None)
    assert "template" in refusal.value.detail


def test_an_encoder_is_told_why_it_cannot_be_trained(tmp_path: Path) -> None:
    with pytest.raises(WrongArchitecture) as refusal:
        inspected(make_roberta(tmp_path / "roberta"))
    assert "RobertaForMaskedLM is an encoder: it reads text but cannot write any" in refusal.value.detail
    assert "ForCausalLM" in refusal.value.hint
