"""Facts of many models at once, each from its headers; what cannot be used is told with the reason."""

from collections.abc import Callable, Sequence
from pathlib import Path

from btmd.errors import BtmdError, ModelDamaged
from btmd.inspection.facts import ModelFacts, Surveyed, SurveyFacts

Progress = Callable[[float, str], None]


def survey(paths: Sequence[str], progress: Progress) -> SurveyFacts:
    """Look at model folders and GGUF files; nothing is converted or kept."""
    found: list[Surveyed] = []
    for number, text in enumerate(paths):
        path = Path(text)
        progress(number / len(paths), f"Reading {path.name}")
        try:
            found.append(Surveyed(path=text, facts=_facts(path)))
        except BtmdError as error:
            found.append(Surveyed(path=text, code=error.code, problem=error.detail))
        except OSError as error:
            found.append(Surveyed(path=text, code="file_not_found", problem=f"It cannot be read: {error.strerror}."))
    return SurveyFacts(models=tuple(found))


def _facts(path: Path) -> ModelFacts:
    from btmd.inspection.model import inspect_model

    if path.is_dir():
        return inspect_model(path, tokenizer_folder=None, progress=lambda _share, _text: None)
    return gguf_facts(path)


def gguf_facts(path: Path) -> ModelFacts:
    """What a GGUF file would become, from its header alone. Raises what the conversion would refuse with."""
    from btmd.inspection.gguf import quantisation
    from btmd.inspection.gguf_header import read_gguf_header
    from btmd.inspection.gguf_names import check_family, configuration, hugging_face_names

    header = read_gguf_header(path)
    check_family(header)
    named = hugging_face_names(header)
    config = configuration(header, None)
    parameters = sum(tensor.elements for tensor in named.values())
    name = str(header.values.get("general.name", "")) + path.name
    template = bool(header.values.get("tokenizer.chat_template"))
    layers = {one.removesuffix(".weight").rpartition(".")[2] for one in named if ".layers." in one and "proj" in one}
    if not config["max_position_embeddings"]:
        raise ModelDamaged("The GGUF file does not give the model's context length.", hint="Copy or download it again.")
    return ModelFacts(
        architecture=config["architectures"][0],
        family=config["model_type"],
        parameters=parameters,
        dtype="bfloat16",
        layers=config["num_hidden_layers"],
        hidden_size=config["hidden_size"],
        intermediate_size=config["intermediate_size"],
        heads=config["num_attention_heads"],
        kv_heads=config["num_key_value_heads"],
        head_size=config["head_dim"],
        vocab_size=config["vocab_size"],
        context_length=config["max_position_embeddings"],
        tied_embeddings=config["tie_word_embeddings"],
        size_bytes=2 * parameters,
        weight_files=1,
        tokenizer="slow",
        has_chat_template=template,
        is_chat=template,
        is_code="code" in name.lower(),
        fingerprint="",
        license=None,
        quantised=quantisation(header),
        linear_layers=tuple(sorted(one for one in layers if one.endswith("proj"))),
        warnings=(),
    )
