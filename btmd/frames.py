"""The spool: how a trainer tells what happens, so that no reader has to be there when it does.

One file an attempt. A frame is a header of 16 bytes (payload length, CRC-32 of number and payload, running number
from 1) and a JSON payload. The file only grows; a cut last frame means the writer died while writing it, and is
ignored until it is complete. Frames are synced when what they announce must not be lost.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

HEADER = struct.Struct("<IIQ")
MAX_PAYLOAD_BYTES = 4 * 1024 * 1024


class Frame(msgspec.Struct, frozen=True, tag_field="kind", omit_defaults=True):
    """Something the trainer reports. ``at_us`` is the trainer's wall clock, microseconds UTC."""

    at_us: int


class StageEntered(Frame, frozen=True, tag="stage"):
    """The trainer began ``validating``, ``preparing``, ``training`` or ``evaluating``."""

    stage: str
    text: str = ""
    """A plain sentence: what it is doing."""


class TrainingShape(Frame, frozen=True, tag="shape"):
    """What the run turned out to be once model and data were loaded (counts, never contents)."""

    total_steps: int
    total_epochs: int
    train_rows: int
    held_out_rows: int
    left_out_rows: int
    """Rows longer than ``max_length`` tokens: left out whole."""
    learned_tokens_per_epoch: int
    trainable_parameters: int
    total_parameters: int
    device: str
    precision: str
    threads: int
    implementation: str
    resumed_from_step: int = 0


class Tick(Frame, frozen=True, tag="tick"):
    """Progress. ``losses[i]`` is the training loss of optimizer step ``steps[i]``, counted from 1."""

    step: int
    total_steps: int
    epoch: int
    """Counted from 0."""
    losses: tuple[float, ...]
    steps: tuple[int, ...]
    learning_rate: float
    tokens_per_s: float
    """Real (unpadded) tokens per second of wall time since the tick before."""
    elapsed_s: float
    """Training time of this attempt, evaluation and saving excluded."""
    memory_bytes: int
    """Resident set of the trainer."""
    gpu_memory_bytes: int | None = None
    gpu_utilization: float | None = None
    gradient_norm: float | None = None


class HeldOutEvaluated(Frame, frozen=True, tag="evaluated"):
    """The mean held-out loss per learned token (nats), or per pair, after ``step`` optimizer steps."""

    step: int
    loss: float
    tokens: int
    when: str
    """``before``, ``during`` or ``after``."""
    seconds: float
    margin: float | None = None
    """Of pairs: by how much the chosen side gained on the rejected one, on average."""
    accuracy: float | None = None
    """Of pairs: the share in which it did."""


class CheckpointSaved(Frame, frozen=True, tag="checkpoint"):
    """A whole checkpoint stands under its final name in the job folder."""

    step: int
    name: str
    size_bytes: int
    held_out_loss: float | None = None
    best: bool = False
    pruned: tuple[str, ...] = ()


class CheckpointRejected(Frame, frozen=True, tag="checkpoint_rejected"):
    """A checkpoint was found damaged at a resume and the one before it was used."""

    name: str
    reason: str
    used_instead: str | None = None


class MachineRate(Frame, frozen=True, tag="machine_rate"):
    """How fast this machine multiplies matrices (operations a second) and copies memory (bytes a second)."""

    device: str
    precision: str
    threads: int
    flops: float
    copied_bytes_s: float


class Spread(msgspec.Struct, frozen=True):
    """A figure with a range: nine outcomes in ten should lie from ``low`` to ``high``."""

    low: float
    middle: float
    high: float
    uncalibrated: float | None = None
    """What was computed, before the factors; None: the middle."""


class TrialDone(Frame, frozen=True, tag="trial"):
    """What real steps before the first one foretell. Bytes and seconds; ``total_s`` is from the process's start."""

    memory_bytes: Spread
    """Peak in main memory, of which ``process_bytes`` were there before the model."""
    process_bytes: int
    disk_bytes: Spread
    step_s: Spread
    total_s: Spread
    gpu_memory_bytes: Spread | None
    seconds: float
    """What the trial took."""
    micro_batches: int
    micro_batch_size: int
    """Rows at once from now on."""
    largest_tokens: int
    shapes: int
    """Lengths at which something is computed; ``shapes_left`` of them were not tried."""
    shapes_left: int
    saving_s: float = 0.0
    """What a checkpoint takes; 0: not told."""
    closing_s: float = 0.0
    """What comes after the last step: measuring, answers, the result; 0: not told."""


class Notice(Frame, frozen=True, tag="notice"):
    """Something the person should know, in a sentence; ``code`` is stable."""

    code: str
    text: str


class Finished(Frame, frozen=True, tag="finished"):
    """The attempt reached its end and the result folder is whole."""

    ended_by: str
    """``finished``, ``stopped``, ``early_stopping`` or ``time``."""
    steps: int
    final_loss: float | None
    """Training loss of the last step."""
    held_out_before: float | None
    held_out_after: float | None
    best_step: int
    training_s: float
    result: str
    """Path of the result, relative to the job folder."""
    peak_memory_bytes: int
    peak_gpu_memory_bytes: int | None = None
    attempt_s: float = 0.0
    """From the start of this attempt's process; 0: not told."""
    margin: float | None = None
    """Of held-out pairs, in the result: by how much the chosen side gained on the rejected one, on average."""
    accuracy: float | None = None
    """Of held-out pairs, in the result: the share in which it did."""
    folder_bytes: int = 0
    """What the job's folder holds; 0: not told."""
    held_out_low: float | None = None
    """Improvement of the held-out loss in percent: nine times in ten it lies from here to ``held_out_high`` (bootstrap
    over the rows)."""
    held_out_high: float | None = None
    held_out_rows: int = 0
    """Rows, measured before and after, that the range rests on."""
    general_before: float | None = None
    """Mean loss per token (nats) of answers to everyday questions, before training."""
    general_after: float | None = None
    """The same of the result; clearly higher: the model has forgotten."""
    general_questions: int = 0
    overlap_before: float | None = None
    """Mean F1 of the words in generated answers and in the data's, over held-out prompts with short answers, 0 to 1."""
    overlap_after: float | None = None
    exact_before: float | None = None
    """Share of these prompts whose answer has exactly the data's words, 0 to 1."""
    exact_after: float | None = None
    scored_answers: int = 0
    """Prompts that the last four are means over."""


class Stopped(Frame, frozen=True, tag="stopped"):
    """The attempt ended on request. ``reason``: ``pause`` (checkpoint saved), ``cancel`` or ``leave``."""

    reason: str
    step: int


class Failed(Frame, frozen=True, tag="failed"):
    """The attempt failed. ``reason`` is typed: ``out_of_memory``, ``not_a_number``, ``data``, ``model``,
    ``model_changed``, ``disk_full``, ``device`` or ``crash``."""

    reason: str
    text: str
    step: int = 0
    """The last whole step; of ``not_a_number`` the one that could not be computed, counted from 1."""
    rows: tuple[int, ...] = ()
    """Of ``not_a_number``: the rows, by the number that findings give them, that were computed together when a loss or
    a gradient was not finite. Empty where it was not one micro-batch's doing."""


AnyFrame = (
    StageEntered
    | TrainingShape
    | Tick
    | HeldOutEvaluated
    | CheckpointSaved
    | CheckpointRejected
    | MachineRate
    | TrialDone
    | Notice
    | Finished
    | Stopped
    | Failed
)
_ENCODER = msgspec.json.Encoder()
_DECODER: msgspec.json.Decoder[AnyFrame] = msgspec.json.Decoder(AnyFrame)


class SpoolDamaged(Exception):
    """A frame in the middle of a spool does not match its checksum; ``offset`` is where."""

    def __init__(self, path: Path, offset: int) -> None:
        super().__init__(f"the spool {path.name} is damaged at byte {offset}")
        self.offset = offset


class FrameWriter:
    """Appends frames to one spool; continues the numbering of a file that is there.

    Raises OSError when the disk is full; what was appended before stays readable.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        end, number = 0, 0
        for found in read_frames(path):
            end, number = found.end, found.number
        os.ftruncate(self._file, end)
        os.lseek(self._file, end, os.SEEK_SET)
        self._end = end
        self.number = number

    def append(self, frame: AnyFrame, *, sync: bool = False) -> int:
        """Append one frame and return its number; with ``sync`` it is on the disk when this returns."""
        payload = _ENCODER.encode(frame)
        number = self.number + 1
        check = zlib.crc32(payload, zlib.crc32(number.to_bytes(8, "little")))
        data = HEADER.pack(len(payload), check, number) + payload
        try:
            done = 0
            while done < len(data):
                done += os.write(self._file, data[done:])
        except OSError:
            # A half frame in front of later ones would hide them: take it back before anything else is written.
            os.ftruncate(self._file, self._end)
            os.lseek(self._file, self._end, os.SEEK_SET)
            raise
        self._end += len(data)
        self.number = number
        if sync:
            os.fsync(self._file)
        return number

    def sync(self) -> None:
        """Every frame appended so far is on the disk when this returns."""
        os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)


class FoundFrame(msgspec.Struct, frozen=True):
    """A frame as read: its running number, and the byte after it."""

    number: int
    frame: AnyFrame
    end: int


def read_frames(path: Path, offset: int = 0) -> Iterator[FoundFrame]:
    """Yield the complete frames from byte ``offset`` on; stops at an incomplete one.

    Raises SpoolDamaged when a complete frame does not match its checksum. A missing file has no frames.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        file.seek(offset)
        while len(header := file.read(HEADER.size)) == HEADER.size:
            length, check, number = HEADER.unpack(header)
            if length > MAX_PAYLOAD_BYTES:
                raise SpoolDamaged(path, offset)
            payload = file.read(length)
            if len(payload) < length:
                return
            if zlib.crc32(payload, zlib.crc32(number.to_bytes(8, "little"))) != check:
                raise SpoolDamaged(path, offset)
            offset += HEADER.size + length
            yield FoundFrame(number, _DECODER.decode(payload), offset)


def as_data(frame: AnyFrame) -> dict[str, Any]:
    """The frame as plain JSON values, without its tag."""
    data: dict[str, Any] = msgspec.to_builtins(frame)
    data.pop("kind", None)
    return data
