"""Everything that an exact resume needs, in one place.

The data order needs no state: it is a function of seed and step. Neither does the learning rate. The rest is here.
"""

import random
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor

from btmd.errors import Damaged
from btmd.trainer.answers import Answered
from btmd.trainer.model import TrainableModel
from btmd.trainer.optimizer import AdamW
from btmd.trainer.step import Accumulation

_MAYBE_UNTOLD = ("learning_rate", "max_length")
_NOT_COMPARED = ("quarantined_rows", "training_type", "adapter")

TensorFiles = dict[str, dict[str, Tensor]]
"""Tensors by name, by the name of the file they are kept in."""


def name_of_step(step: int) -> str:
    """The name of a checkpoint taken after ``step`` whole steps."""
    return f"step-{step:08d}"


class HeldOutLoss(msgspec.Struct, frozen=True):
    """The mean over ``tokens`` learned tokens, in nats, after ``step`` whole steps; of pairs, over pairs."""

    step: int
    loss: float
    tokens: int
    margin: float | None = None
    accuracy: float | None = None


class Scores(msgspec.Struct, frozen=True):
    """What was measured beside the held-out loss, as in frames.Finished; ``answers`` is ``scored_answers`` there."""

    general: float | None = None
    overlap: float | None = None
    exact: float | None = None
    answers: int = 0


MOST_QUICKENED, MOST_SLOWED = 0.7, 4.0


class Costs(msgspec.Struct):
    """What measuring takes, as it was the last time, in seconds."""

    measuring_s: float = 0.0
    """The held-out loss."""
    first_measuring_s: float = 0.0
    """The same before the first step, when the others were taken too."""
    general_s: float = 0.0
    answering: Answered = msgspec.field(default_factory=Answered)
    written_bytes_s: float = 0.0
    """Bytes written, hashed and synced in a second; 0: not measured."""

    @property
    def pace(self) -> float:
        """How much longer than before the first step things take by now: other programs come and go."""
        if self.measuring_s <= 0 or self.first_measuring_s <= 0:
            return 1.0
        return min(MOST_SLOWED, max(MOST_QUICKENED, self.measuring_s / self.first_measuring_s))


class Timed(msgspec.Struct, frozen=True):
    """What the time allows: optimizer steps in all, and how many lie between two measurements."""

    total_steps: int
    eval_every: int


class Progress(msgspec.Struct):
    """How far the run is. ``step`` counts finished optimizer steps, ``accumulation`` is about the one after."""

    step: int = 0
    accumulation: Accumulation = msgspec.field(default_factory=Accumulation)
    last_loss: float | None = None
    training_s: float = 0.0
    """Over all attempts, evaluation and saving excluded."""
    held_out_before: float | None = None
    before: Scores = msgspec.field(default_factory=Scores)
    costs: Costs = msgspec.field(default_factory=Costs)
    evaluations: list[HeldOutLoss] = msgspec.field(default_factory=list)
    """During and at the end of training."""
    best: HeldOutLoss | None = None
    evaluations_without_gain: int = 0
    loss_scale: float = 1.0
    steps_at_loss_scale: int = 0
    timed: Timed | None = None
    rewind: str = ""
    """The going back to an earlier step since which this was made; see resuming.rewind_of."""

    @property
    def name(self) -> str:
        """The name of a checkpoint of this moment; sorts by time."""
        rows = self.accumulation.rows_done
        return name_of_step(self.step) + (f"-row-{rows:05d}" if rows else "")

    def note_evaluation(self, found: HeldOutLoss) -> bool:
        """Enter the held-out loss of the present step; True if it is the best so far."""
        self.evaluations.append(found)
        if self.best is None or found.loss < self.best.loss:
            self.best = found
            self.evaluations_without_gain = 0
            return True
        self.evaluations_without_gain += 1
        return False

    def evaluated_now(self) -> bool:
        return bool(self.evaluations) and self.evaluations[-1].step == self.step


class Conditions(msgspec.Struct, frozen=True):
    """What must be equal for a resume to be exact: floating-point sums come out otherwise under other ones."""

    threads: int
    precision: str
    device: str
    compile: bool
    micro_batch_size: int
    gradient_checkpointing: bool
    implementation: str
    torch: str
    learning_rate: float = 0.0
    """This one and those below: not told by an earlier release."""
    max_length: int = 0
    quarantined_rows: tuple[int, ...] = ()
    training_type: str = ""
    adapter: str = ""
    """What decides on its tensors, in words."""

    def fits(self, other: "Conditions") -> bool:
        """Whether a state saved under the other ones can be gone on with."""
        return (other.training_type, other.adapter) in (("", ""), (self.training_type, self.adapter))

    def differences(self, other: "Conditions") -> list[str]:
        """Each difference as ``name: before -> now``; of rows in quarantine, their number."""
        found = [
            f"{name}: {getattr(other, name)} -> {getattr(self, name)}"
            for name in self.__struct_fields__
            if name not in _NOT_COMPARED and getattr(self, name) != getattr(other, name)
            if getattr(other, name) != 0 or name not in _MAYBE_UNTOLD
        ]
        if self.quarantined_rows != other.quarantined_rows:
            found.append(f"rows in quarantine: {len(other.quarantined_rows)} -> {len(self.quarantined_rows)}")
        return found


class RandomStates(msgspec.Struct, frozen=True):
    """Of Python and numpy; torch's are tensors."""

    python: tuple[int, tuple[int, ...], float | None]
    numpy_keys: tuple[int, ...]
    numpy_position: int
    numpy_has_gauss: int
    numpy_gauss: float


class Facts(msgspec.Struct, frozen=True):
    """The part of a checkpoint that is not tensors."""

    progress: Progress
    conditions: Conditions
    random: RandomStates


def read_facts(facts: bytes) -> Facts:
    """The facts of a checkpoint; raises Damaged."""
    try:
        return msgspec.json.decode(facts, type=Facts)
    except msgspec.DecodeError as error:
        raise Damaged(f"The saved state cannot be read: {error}") from error


class TrainingState:
    """The model, its optimizer, and the progress; saved whole and taken back whole."""

    def __init__(self, model: TrainableModel, optimizer: AdamW, conditions: Conditions) -> None:
        self.model = model
        self.optimizer = optimizer
        self.conditions = conditions
        self.progress = Progress()

    def tensors(self) -> TensorFiles:
        """Not copies: write them out before the next step."""
        files = {
            "weights": self.model.state_tensors(),
            "optimizer": self.optimizer.state_tensors(),
            "random": _torch_random_states(),
        }
        if self.progress.accumulation.rows_done:
            files["gradients"] = {
                f"{index:05d}": parameter.grad
                for index, parameter in enumerate(self.optimizer.parameters)
                if parameter.grad is not None
            }
        return files

    def facts(self) -> bytes:
        keys = np.random.get_state(legacy=False)
        numpy_state: Any = keys["state"]
        states = RandomStates(
            python=random.getstate(),
            numpy_keys=tuple(int(word) for word in numpy_state["key"]),
            numpy_position=int(numpy_state["pos"]),
            numpy_has_gauss=int(keys["has_gauss"]),
            numpy_gauss=float(keys["gauss"]),
        )
        return msgspec.json.encode(Facts(self.progress, self.conditions, states))

    def restore(self, files: TensorFiles, facts: bytes) -> Conditions:
        """Take everything back and return the conditions it was saved under; raises Damaged when it does not fit."""
        found = read_facts(facts)
        self.optimizer.load_state_tensors(files["optimizer"])
        self.model.load_state_tensors(files["weights"])
        gradients = files.get("gradients", {})
        for index, parameter in enumerate(self.optimizer.parameters):
            gradient = gradients.get(f"{index:05d}")
            parameter.grad = None if gradient is None else gradient.to(parameter.device).clone()
        self.progress = found.progress
        _restore_random_states(files["random"], found.random)
        return found.conditions


def _torch_random_states() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _restore_random_states(tensors: dict[str, Tensor], states: RandomStates) -> None:
    torch.set_rng_state(tensors["cpu"].clone())
    if "cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["cuda"].clone())
    random.setstate(states.python)
    np.random.set_state(
        {
            "bit_generator": "MT19937",
            "state": {"key": np.array(states.numpy_keys, np.uint32), "pos": states.numpy_position},
            "has_gauss": states.numpy_has_gauss,
            "gauss": states.numpy_gauss,
        }
    )


def seed_everything(seed: int) -> None:
    """Start all random states of a new run from its seed."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)
