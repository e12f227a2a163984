"""What follows from the chosen values and is not a person's to set; told all the same, each with its reason."""

from btmd.planning.choices import Choices
from btmd.planning.fit import Fit
from btmd.planning.memory import FUSED_ARCHITECTURES
from btmd.planning.plan import Value
from btmd.planning.training_types import QLORA


def fixed_values(choices: Choices, fit: Fit) -> dict[str, Value]:
    """Accumulation, optimizer, attention, workers for the data, and the base's own format."""
    batch, micro = choices.integer("batch_size"), choices.integer("micro_batch_size")
    parts = -(-batch // micro)
    fused = choices.request.model.architecture in FUSED_ARCHITECTURES
    return {
        "gradient_accumulation": Value(
            parts,
            "hardware",
            f"{parts} times {micro} rows make the step of {batch} that the preset or you asked for."
            if parts > 1
            else "A step is computed in one part.",
        ),
        "optimizer": Value("adamw", "preset", "AdamW with its state in 32 bits: the usual choice for language models."),
        "attention": Value(
            "own" if fused else "transformers",
            "model",
            "Row by row without padding, in layers of btmd's own."
            if fused
            else "As transformers computes this architecture, without padding between rows of equal length.",
        ),
        "dataloader_workers": Value(
            0, "data", "Rows are tokenised once before the first step, so no worker has to prepare them meanwhile."
        ),
        "base_precision": Value(
            "nf4" if fit.training_type == QLORA else fit.precision,
            "hardware",
            "Four bits a weight, brought back into 16 bits layer by layer while it is computed."
            if fit.training_type == QLORA
            else "The base's weights stand in memory in the format they are computed in.",
        ),
    }
