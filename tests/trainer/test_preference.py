"""Preference tuning: the chosen answers gain on the rejected ones, exactly resumed and however a step is cut."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest

from btmd.frames import Finished, HeldOutEvaluated, Stopped, TrialDone
from btmd.job_folder import JobFolder, LoraPlan
from btmd.trainer.failures import TrainingFailed
from tests.fixtures.tiny_model import make_tiny_llama
from tests.trainer.here import crash_here, only, train_here
from tests.trainer.job import frames_of, losses_of, make_plan
from tests.trainer.model.models import change_config
from tests.trainer.test_trial import TRIAL

_THINGS = ("bell", "lamp", "boat", "wheel", "gate", "clock", "well", "tower")
KINDS: dict[str, dict[str, Any]] = {
    "adapter": {"lora": LoraPlan(r=4, alpha=8, dropout=0.0)},
    "all weights": {"lora": None, "learning_rate": 1e-3},
}


def pair(index: int) -> dict[str, Any]:
    thing = _THINGS[index % 8]
    question = {"role": "user", "content": f"Where is the {thing} number {index}?" + " Tell me." * (index % 4)}
    polite = f"Gladly: the {thing} stands in the harbour" + " by the sea" * (index % 5) + "."
    rude = "Go away and look for it." + " Now." * (index % 3)
    return {
        "line": index + 1,
        "messages": [question, {"role": "assistant", "content": polite}],
        "rejected": [question, {"role": "assistant", "content": rude}],
        "split": "held_out" if index % 5 == 0 else "train",
    }


def make_pairs_job(root: Path, name: str = "job", *, plain: bool = False, **changes: Any) -> JobFolder:
    root.mkdir(exist_ok=True)
    if plain and not (root / "model").exists():
        # A scaled rotation is none of the fused implementation's: the plain one takes it.
        make_tiny_llama(root / "model", hidden=32, layers=2, heads=2, kv_heads=1, vocab=320)
        change_config(root / "model", rope_scaling={"rope_type": "linear", "factor": 2.0})
    plan = make_plan(root)
    rows = root / "rows.jsonl"
    rows.write_text("".join(json.dumps(pair(index)) + "\n" for index in range(30)))
    values: dict[str, Any] = {
        "rows_sha256": hashlib.sha256(rows.read_bytes()).hexdigest(),
        "training_type": "preference_tuning",
        "dpo_beta": 0.5,
        "eval_every": 4,
        **KINDS["adapter"],
        **changes,
    }
    folder = JobFolder(root / name)
    folder.create(msgspec.structs.replace(plan, **values))
    return folder


@pytest.fixture(scope="module", params=KINDS)
def undisturbed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> JobFolder:
    folder = make_pairs_job(tmp_path_factory.mktemp("pairs"), **KINDS[request.param])
    train_here(folder)
    return folder


def twin(undisturbed: JobFolder, tmp_path: Path, **changes: Any) -> JobFolder:
    folder = JobFolder(tmp_path / "twin")
    folder.create(msgspec.structs.replace(undisturbed.read_plan(), **changes))
    return folder


def evaluations(folder: JobFolder, attempt: int = 1) -> list[HeldOutEvaluated]:
    return only(HeldOutEvaluated, frames_of(folder, attempt))


def test_on_held_out_pairs_the_loss_falls_and_the_chosen_answer_gains(undisturbed: JobFolder) -> None:
    before, *_, after = evaluations(undisturbed)
    assert before.loss == pytest.approx(math.log(2), rel=1e-5)
    assert (before.margin, before.accuracy) == (pytest.approx(0.0, abs=1e-5), pytest.approx(0.5))
    assert after.loss < 0.6 * before.loss
    assert after.margin is not None
    assert after.margin > 0.5
    assert after.accuracy == 1.0
    assert losses_of(undisturbed)[1] == pytest.approx(math.log(2), rel=1e-5)


def test_the_plain_implementation_learns_the_same(undisturbed: JobFolder, tmp_path: Path) -> None:
    plan = undisturbed.read_plan()
    folder = make_pairs_job(tmp_path / "plain", plain=True, lora=plan.lora, learning_rate=plan.learning_rate)
    train_here(folder)
    before, *_, after = evaluations(folder)
    assert before.loss == pytest.approx(math.log(2), rel=1e-5)
    assert after.loss < 0.6 * before.loss


def test_crashes_and_pauses_change_nothing(undisturbed: JobFolder, tmp_path: Path) -> None:
    folder = twin(undisturbed, tmp_path)
    crash_here(folder, 1, step=6, looks=2)  # back to step 4
    train_here(folder, 2, control="pause", step=6, looks=3)
    assert only(Stopped, frames_of(folder, 2))
    train_here(folder, 3)
    assert losses_of(folder, [1, 2, 3]) == losses_of(undisturbed)
    assert evaluations(folder, 3)[-1].loss == evaluations(undisturbed)[-1].loss


def test_references_that_are_lost_are_made_again_from_the_first_weights(undisturbed: JobFolder, tmp_path: Path) -> None:
    folder = twin(undisturbed, tmp_path)
    train_here(folder, 1, control="pause", step=5)
    kept = folder.path / "references.safetensors"
    assert kept.exists() == (folder.read_plan().lora is None)
    if kept.exists():
        data = bytearray(kept.read_bytes())
        data[-3] ^= 64
        kept.write_bytes(data)
    train_here(folder, 2)
    assert losses_of(folder, [1, 2]) == losses_of(undisturbed)


@pytest.mark.parametrize("micro_batch_size", [1, 3, 6])
def test_a_step_may_be_cut_into_any_micro_batches(
    undisturbed: JobFolder, tmp_path: Path, micro_batch_size: int
) -> None:
    folder = twin(undisturbed, tmp_path, micro_batch_size=micro_batch_size, max_steps=4)
    reference = twin(undisturbed, tmp_path / "two", max_steps=4)
    train_here(folder)
    train_here(reference)
    found, expected = losses_of(folder), losses_of(reference)
    assert found.keys() == expected.keys()
    assert all(found[step] == pytest.approx(expected[step], abs=1e-5) for step in found)


def test_steps_on_trial_change_nothing(undisturbed: JobFolder, tmp_path: Path) -> None:
    folder = twin(undisturbed, tmp_path, trial=TRIAL)
    train_here(folder)
    assert only(TrialDone, frames_of(folder))
    assert losses_of(folder) == losses_of(undisturbed)


def test_the_result_names_the_margin_and_what_was_answered(undisturbed: JobFolder) -> None:
    record = json.loads((undisturbed.result / "training.json").read_bytes())
    assert record["evaluations"][-1]["accuracy"] == 1.0
    assert record["settings"]["dpo_beta"] == 0.5
    [finished] = only(Finished, frames_of(undisturbed))
    assert finished.held_out_after < finished.held_out_before
    answers = json.loads(undisturbed.answers_path.read_bytes())["samples"]
    assert answers[0]["expected"].startswith("Gladly")


def test_rows_without_a_rejected_answer_are_refused(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, training_type="preference_tuning")
    folder = JobFolder(tmp_path / "job")
    folder.create(plan)
    with pytest.raises(TrainingFailed, match="rejected"):
        train_here(folder)
