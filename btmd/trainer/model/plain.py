"""Any causal language model that transformers knows, with peft's adapters: the reference implementation."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from btmd.errors import Conflict, ModelDamaged, ModelRefused, NotAModel
from btmd.trainer.model import adapter, full_model
from btmd.trainer.model.interface import COMPUTE_DTYPE, NO_ADAPTER, Batch, Implementation, LoraSettings, Precision
from btmd.trainer.model.masters import Masters
from btmd.trainer.model.quantised import count_weights, quantisation
from btmd.trainer.model.sampling import generate_tokens

LENGTH_BUCKET = 64
"""Rows are padded to a multiple of this, so that oneDNN's kernels, kept per shape, do not pile up in memory."""

_NO_TARGET = -100


class PlainModel:
    """transformers and peft behind the TrainableModel interface.

    Rows are padded on the right; only the learned positions go through the vocabulary projection. Dropout of
    the base model is off: ``lora.dropout`` is the only one there is.
    """

    implementation: Implementation = "plain"

    def __init__(
        self,
        folder: Path,
        *,
        precision: Precision,
        lora: LoraSettings | None,
        gradient_checkpointing: bool,
        seed: int,
        device: torch.device,
        compile: bool,
        quantised: bool = False,
    ) -> None:
        """``quantised``: the frozen weights stand in four bits; takes an adapter."""
        self.device = device
        self.dtype = COMPUTE_DTYPE[precision]
        self._folder = folder
        self._lora = lora
        model = _load_base(folder, self.dtype, device, quantised=quantised)
        total = count_weights(model)
        self._layers: dict[str, tuple[int, int]] = {}
        if lora is not None:
            self._layers = _linear_layers(model, lora.target_modules)
            masters = adapter.new_adapter(self._layers, lora, seed=seed, device=device)
            model = _add_adapter(model, lora, list(self._layers), self.dtype)
            total += sum(master.numel() for master in masters.values())
            trained = {_master_name(name): p for name, p in model.named_parameters() if p.requires_grad}
            if trained.keys() != masters.keys():
                raise ModelRefused("peft put its adapters at other layers than asked for.")
        else:
            trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
            masters = {name: nn.Parameter(p.detach().float().clone()) for name, p in trained.items()}
        self._total = total
        self._model = model
        self._masters = Masters(masters)
        for name, weight in trained.items():
            self._masters.add_follower(name, weight.detach())
            weight.register_post_accumulate_grad_hook(_hand_over(masters[name]))
        self._masters.follow()
        if gradient_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        self._selected: Tensor | None = None
        head: nn.Module = model.get_output_embeddings()
        head.register_forward_pre_hook(self._select_positions)
        self._forward: Any = torch.compile(model, dynamic=True) if compile else model

    def trainable_parameters(self) -> list[nn.Parameter]:
        return self._masters.parameters()

    def loss_sum(self, batch: Batch) -> Tensor:
        self._masters.follow()
        self._model.train()
        return self._loss(batch)

    @torch.no_grad()
    def evaluate_loss_sum(self, batch: Batch) -> tuple[float, int]:
        self._masters.follow()
        self._model.eval()
        return float(self._loss(batch)), batch.count_learned()

    def sequence_losses(self, batch: Batch) -> Tensor:
        self._masters.follow()
        self._model.train()
        return self._sequence_losses(batch)

    @torch.no_grad()
    def evaluate_sequence_losses(self, batch: Batch, *, base: bool = False) -> Tensor:
        self._masters.follow()
        self._model.eval()
        with self._without_adapter(base):
            return self._sequence_losses(batch)

    def _sequence_losses(self, batch: Batch) -> Tensor:
        logits, targets = self._predictions(batch)
        losses = functional.cross_entropy(logits, targets, reduction="none", ignore_index=_NO_TARGET)
        counts = batch.learned_counts()
        return torch.stack([part.sum() for part in torch.split(losses[: sum(counts)], counts)])

    def _without_adapter(self, base: bool) -> AbstractContextManager[Any]:
        self._require_adapter(base)
        without: AbstractContextManager[Any] = self._model.disable_adapter() if base else contextlib.nullcontext()
        return without

    def _require_adapter(self, base: bool) -> None:
        if base and self._lora is None:
            raise Conflict(NO_ADAPTER)

    def _loss(self, batch: Batch) -> Tensor:
        logits, targets = self._predictions(batch)
        return functional.cross_entropy(logits, targets, reduction="sum", ignore_index=_NO_TARGET)

    def _predictions(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits in fp32 at the places that predict learned tokens, and these tokens; padding has no target."""
        ids, attended, places, targets = _lay_out(batch, self.device)
        self._selected = places
        try:
            output = self._forward(input_ids=ids, attention_mask=attended, use_cache=False)
        finally:
            self._selected = None
        return output.logits[0].float(), targets

    def _select_positions(self, _head: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        """Leave only the positions whose next token is learned; a model's scaling after the head still applies."""
        if self._selected is None:
            return None
        hidden = inputs[0]
        return (hidden.flatten(0, 1).index_select(0, self._selected).unsqueeze(0), *inputs[1:])

    def generate(
        self,
        prompt_ids: list[int],
        *,
        max_new_tokens: int,
        eos_ids: set[int],
        temperature: float = 0.0,
        seed: int = 0,
        base: bool = False,
    ) -> Iterator[int]:
        self._require_adapter(base)
        cache: Any = None

        def next_logits(ids: list[int]) -> Tensor:
            nonlocal cache
            self._masters.follow()
            self._model.eval()
            with torch.no_grad(), self._without_adapter(base):
                given = torch.tensor([ids], device=self.device)
                output = self._model(input_ids=given, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache = output.past_key_values
            last: Tensor = output.logits[0, -1]
            return last

        return generate_tokens(
            next_logits,
            prompt_ids,
            max_new_tokens=max_new_tokens,
            eos_ids=eos_ids,
            temperature=temperature,
            seed=seed,
        )

    def answer_all(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: Sequence[int],
        eos_ids: set[int],
        base: bool = False,
        between: Callable[[], None] = lambda: None,
    ) -> list[list[int]]:
        # One by one: not every architecture can be padded on the left.
        answers: list[list[int]] = []
        for prompt, limit in zip(prompts, max_new_tokens, strict=True):
            ids: list[int] = []
            for token in self.generate(list(prompt), max_new_tokens=limit, eos_ids=eos_ids, base=base):
                between()
                ids.append(token)
            answers.append(ids)
        return answers

    def state_tensors(self) -> dict[str, Tensor]:
        return self._masters.tensors()

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        self._masters.load(tensors)

    def save_result(self, folder: Path) -> None:
        if self._lora is not None:
            tensors = self._masters.tensors()
            adapter.write_adapter(folder, tensors, self._lora, modules=list(self._layers), base=self._folder)
            return
        self._masters.follow()
        # transformers may hold weights under other names than the folder's (merged experts); it knows the way back.
        self._model.save_pretrained(folder, state_dict=_rounded_once(self._model.state_dict()))
        full_model.copy_surroundings(self._folder, folder)

    def count_parameters(self) -> tuple[int, int]:
        return self._masters.count(), self._total


def _hand_over(master: nn.Parameter) -> Any:
    """Move a weight's gradient into its master's, in fp32, as soon as backward has made it."""

    def hook(weight: Tensor) -> None:
        gradient = weight.grad
        if gradient is None:
            return
        weight.grad = None
        if master.grad is None:
            master.grad = gradient.float()
        else:
            master.grad.add_(gradient)

    return hook


def _load_base(folder: Path, dtype: torch.dtype, device: torch.device, *, quantised: bool) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if not any(folder.glob("*.safetensors")):
        raise NotAModel(f"{folder.name} has no safetensors weights.")
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        _turn_dropout_off(config)
        # Quantised weight by weight on their way to the device: the whole model is never there in 16 bits.
        packed = {"quantization_config": quantisation(dtype), "device_map": {"": device}} if quantised else {}
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            **packed,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelDamaged(f"The model cannot be loaded: {error}") from error
    except Exception as error:
        # safetensors raises its own class for a cut file, not an OSError
        if type(error).__module__.startswith("safetensors") or type(error).__name__ == "SafetensorError":
            raise ModelDamaged(f"The model's weights cannot be read: {error}") from error
        raise
    placed: Any = model
    return placed if quantised else placed.to(device)


def _turn_dropout_off(config: Any) -> None:
    for name, value in list(vars(config).items()):
        if isinstance(value, float) and name.endswith(("dropout", "pdrop", "dropout_prob", "dropout_rate")):
            setattr(config, name, 0.0)


def _linear_layers(model: Any, wanted: tuple[str, ...]) -> dict[str, tuple[int, int]]:
    """Linear layers by name with inputs and outputs, the head left out; raises ModelRefused if none is wanted."""
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    layers: dict[str, tuple[int, int]] = {}
    for name, module in model.named_modules():
        if module is head or (wanted and name.rsplit(".", 1)[-1] not in wanted):
            continue
        if isinstance(module, Conv1D):
            layers[name] = (module.weight.shape[0], module.weight.shape[1])
        elif isinstance(module, nn.Linear):
            layers[name] = (module.in_features, module.out_features)
    if not layers:
        raise ModelRefused(
            f"The model has no linear layer named {', '.join(wanted)}." if wanted else "The model has no linear layer.",
            hint="Leave the list of target modules empty to train adapters on all linear layers.",
        )
    return layers


def _add_adapter(model: Any, lora: LoraSettings, modules: list[str], dtype: torch.dtype) -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # a fraction is allowed; peft's annotation is narrower
        lora_dropout=lora.dropout,
        target_modules=modules,
        bias="none",
        task_type="CAUSAL_LM",
    )
    wrapped = get_peft_model(model, config, autocast_adapter_dtype=False)
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)
    return wrapped


def _rounded_once(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Values in bf16; of names that share one tensor (tied weights) only the first."""
    rounded: dict[str, Tensor] = {}
    seen: set[tuple[int, torch.Size]] = set()
    for name, tensor in tensors.items():
        place = (tensor.data_ptr(), tensor.shape)
        if place not in seen:
            seen.add(place)
            rounded[name] = tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor
    return rounded


def _master_name(name: str) -> str:
    return name.replace(".default.", ".")


def _lay_out(batch: Batch, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Padded ids and attention mask (rows, length), flat positions that predict learned tokens, and these tokens."""
    longest = _bucket(max(ids.numel() for ids in batch.input_ids))
    ids = torch.zeros(len(batch.input_ids), longest, dtype=torch.long)
    attended = torch.zeros_like(ids)
    places: list[Tensor] = []
    targets: list[Tensor] = []
    for row, (tokens, learned) in enumerate(zip(batch.input_ids, batch.learned, strict=True)):
        ids[row, : tokens.numel()] = tokens
        attended[row, : tokens.numel()] = 1
        at = learned[1:].nonzero().squeeze(1)
        places.append(at + row * longest)
        targets.append(tokens[1:][at])
    count = sum(place.numel() for place in places)
    spare = max(_bucket(count), LENGTH_BUCKET) - count
    places.append(torch.zeros(spare, dtype=torch.long))
    targets.append(torch.full((spare,), _NO_TARGET, dtype=torch.long))
    return ids.to(device), attended.to(device), torch.cat(places).to(device), torch.cat(targets).to(device)


def _bucket(length: int) -> int:
    return -(-length // LENGTH_BUCKET) * LENGTH_BUCKET
