"""From rows to tokens: the one way text is tokenised, used to measure a dataset and to train on it.

Stands on ``tokenizers`` and ``jinja2`` only, so that it is imported in a tenth of a second.
"""

import json
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from msgspec import Struct
from tokenizers import AddedToken, Encoding, Tokenizer
from tokenizers.decoders import DecodeStream

from btmd.data.chat_template import PLAIN_TEMPLATE, ChatTemplate
from btmd.data.rows import Message, Row, shared_turns
from btmd.data.skeleton import Skeleton, stand_in
from btmd.errors import BadTemplate, NotAModel, TemplateMismatch, TokenizerMissing

TemplateKind = Literal["model", "plain"]
_Made = TypeVar("_Made")
_MOST_SKELETONS: Final = 200

_NAMED_TOKENS: Final = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_PROBE: Final = (Message(role="user", content="Question"), Message(role="assistant", content="Answer"))


class Encoded(Struct, frozen=True):
    """One row as tokens. ``learned[t]`` says that the loss covers predicting ``input_ids[t]``; never at position 0."""

    input_ids: list[int]
    learned: list[bool]


class Counted(Struct, frozen=True):
    """How many tokens a row has, and how many of them are learned."""

    tokens: int
    learned: int


class EncodedPair(Struct, frozen=True):
    """The conversations with the chosen and with the rejected answer; learned is what stands in only one of them."""

    chosen: Encoded
    rejected: Encoded


class _Rendered(Struct, frozen=True):
    """A row as the model's text, and where in it the answers stand; None for a plain text."""

    text: str
    spans: list[tuple[int, int]] | None


class Encoder:
    """A model's tokenizer together with its chat template."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: ChatTemplate,
        *,
        template_kind: TemplateKind,
        eos_ids: frozenset[int],
        end_of_text_id: int,
    ) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self.template_kind: TemplateKind = template_kind
        """``model``: the model's own template; ``plain``: it has none, and headings are used."""
        self._end_of_text_id = end_of_text_id
        self._skeletons: dict[tuple[tuple[str, ...], int], Skeleton | None] = {}
        self._turn_end = self._find_turn_end()
        turn_end_id = tokenizer.token_to_id(self._turn_end)
        self.eos_ids: frozenset[int] = eos_ids | ({turn_end_id} if turn_end_id is not None else set())
        """Any of these ends an answer."""

    @property
    def vocab_size(self) -> int:
        """Tokens the tokenizer can produce, marks included."""
        return self._tokenizer.get_vocab_size(with_added_tokens=True)

    @classmethod
    def load(cls, model_folder: Path, *, now: datetime | None = None) -> "Encoder":
        """Read tokenizer.json, its configuration and the chat template of a model folder.

        ``now`` is the moment templates see that write the date into the prompt; today when left out, so give the
        job's own to have the same tokens after a resume. Raises TokenizerMissing, BadTemplate or NotAModel.
        """
        config = _read_json(model_folder / "tokenizer_config.json")
        tokenizer = _load_tokenizer(model_folder / "tokenizer.json", config)
        named = _named_tokens(config, _read_json(model_folder / "special_tokens_map.json"))
        eos_ids = _eos_ids(model_folder, tokenizer, named.get("eos_token"))
        source = _template_source(model_folder, config)
        moment = now if now is not None else datetime.now()
        kind: TemplateKind = "model" if source is not None else "plain"
        end_of_text_id = _end_of_text_id(tokenizer, named.get("eos_token"), eos_ids)
        if source is None:
            source = PLAIN_TEMPLATE
            named["bos_if_wanted"] = named.get("bos_token", "") if _adds_bos(tokenizer, named) else ""
            named["eos_token"] = tokenizer.id_to_token(end_of_text_id) or ""
        template = ChatTemplate(source, named, moment)
        return cls(tokenizer, template, template_kind=kind, eos_ids=eos_ids, end_of_text_id=end_of_text_id)

    def encode(self, row: Row) -> Encoded:
        """Tokenise a row; of a conversation, only the assistant's turns with their end mark are learned.

        A text is learned whole and ends with the end-of-text token. A conversation without an assistant's turn has
        nothing learned. Raises TemplateMismatch when the template does not render the conversation turn by turn.
        """
        (encoded,) = self.encode_many([row])
        if isinstance(encoded, TemplateMismatch):
            raise encoded
        return encoded

    def encode_many(self, rows: Sequence[Row]) -> list[Encoded | TemplateMismatch]:
        """Tokenise rows as `encode` does, on all cores; a row the template refuses gives the refusal in its place."""
        return self._tokenised(self._all_rendered(rows))

    def count_many(self, rows: Sequence[Row]) -> list[Counted | TemplateMismatch]:
        """How long the rows would be, encoded as `encode_many` does; of a pair, the chosen conversation."""
        return self._counted(self._all_rendered(rows))

    def count_pairs(self, rows: Sequence[Row]) -> list[tuple[Counted, Counted] | TemplateMismatch]:
        """How long both sides of each row would be, encoded as `encode_pairs` does."""
        return _in_pairs(self._counted(self._pairs_rendered(rows)))

    def encode_pairs(self, rows: Sequence[Row]) -> list[EncodedPair | TemplateMismatch]:
        """Tokenise rows with a chosen and a rejected side; of each, the answers behind their common turns are learned.

        A row that the template refuses on either side gives the refusal in its place.
        """
        pairs = _in_pairs(self._tokenised(self._pairs_rendered(rows)))
        return [pair if isinstance(pair, TemplateMismatch) else EncodedPair(*pair) for pair in pairs]

    def _all_rendered(self, rows: Sequence[Row]) -> "list[_Rendered | TemplateMismatch]":
        rendered: list[_Rendered | TemplateMismatch] = []
        for row in rows:
            try:
                rendered.append(self._rendered(row))
            except TemplateMismatch as error:
                rendered.append(error)
        return rendered

    def _pairs_rendered(self, rows: Sequence[Row]) -> "list[_Rendered | TemplateMismatch]":
        """The chosen side and the rejected side of each row, one behind the other."""
        rendered: list[_Rendered | TemplateMismatch] = []
        for row in rows:
            chosen, rejected = row["messages"], row["rejected"]
            shared = shared_turns(chosen, rejected)
            for side in (chosen, rejected):
                try:
                    rendered.append(self._rendered_turns(side, shared))
                except TemplateMismatch as error:
                    rendered.append(error)
        return rendered

    def _tokenised(self, rendered: Sequence["_Rendered | TemplateMismatch"]) -> list[Encoded | TemplateMismatch]:
        return self._each(
            rendered,
            text=lambda encoding: self._ended_text(encoding.ids),
            chat=lambda spans, encoding: Encoded(encoding.ids, _tokens_in(spans, encoding)),
        )

    def _counted(self, rendered: Sequence["_Rendered | TemplateMismatch"]) -> list[Counted | TemplateMismatch]:
        return self._each(
            rendered,
            text=lambda encoding: self._counted_text(encoding.ids),
            chat=lambda spans, encoding: Counted(len(encoding), _count_in(spans, encoding)),
        )

    def _each(
        self,
        rendered: Sequence["_Rendered | TemplateMismatch"],
        *,
        text: Callable[[Encoding], _Made],
        chat: Callable[[Sequence[tuple[int, int]], Encoding], _Made],
    ) -> list[_Made | TemplateMismatch]:
        chats = [one.text for one in rendered if isinstance(one, _Rendered) and one.spans is not None]
        texts = [one.text for one in rendered if isinstance(one, _Rendered) and one.spans is None]
        # A chat template writes the marks a text begins with itself; for a plain text the tokenizer adds them.
        chat_encodings = iter(self._tokenizer.encode_batch(chats, add_special_tokens=False) if chats else ())
        text_encodings = iter(self._tokenizer.encode_batch(texts, add_special_tokens=True) if texts else ())
        made: list[_Made | TemplateMismatch] = []
        for one in rendered:
            if isinstance(one, TemplateMismatch):
                made.append(one)
            elif one.spans is None:
                made.append(text(next(text_encodings)))
            else:
                made.append(chat(one.spans, next(chat_encodings)))
        return made

    def mask_problem(self) -> str:
        """Why nothing could be learned of a plain question and answer; empty when its answer can."""
        try:
            learned = self.encode(Row(line=0, messages=list(_PROBE))).learned
        except TemplateMismatch as error:
            return error.detail
        if any(learned):
            return ""
        return "The model's chat template does not print the assistant's turns, so no token would be learned."

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """The tokens after which the model writes its answer. Raises TemplateMismatch."""
        text = self._template.render(messages, add_generation_prompt=True)
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
        """The text the model sees for a conversation. Raises TemplateMismatch."""
        return self._template.render(messages, add_generation_prompt=add_generation_prompt)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some tokens, marks such as ``<|im_end|>`` left out."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def token_texts(self, ids: Sequence[int]) -> list[str]:
        """The text of the tokens, marks included; the last of several that make one character has it whole."""
        stream = DecodeStream(skip_special_tokens=False)
        texts: list[str] = []
        unread: list[int] = []
        for token in ids:
            text = stream.step(self._tokenizer, token)
            unread = [*unread, token] if text is None else []
            texts.append(text or "")
        if unread:
            texts[-1] = self._tokenizer.decode(unread, skip_special_tokens=False)
        return texts

    def are_marks(self, ids: Sequence[int]) -> list[bool]:
        """Which of the tokens are marks such as ``<|im_end|>``, and not text."""
        added = self._tokenizer.get_added_tokens_decoder()
        marks = {token for token, spec in added.items() if spec.special}
        return [token in marks for token in ids]

    def _rendered(self, row: Row) -> "_Rendered":
        if "text" in row:
            return _Rendered(row["text"], None)
        return self._rendered_turns(row["messages"])

    def _rendered_turns(self, messages: Sequence[Message], learned_from: int = 0) -> "_Rendered":
        """The conversation, of which answers before the turn ``learned_from`` are not learned."""
        text = self._template.render(messages)
        skeleton = self._skeleton(tuple(message["role"] for message in messages), learned_from)
        spans = skeleton.spans(messages, text) if skeleton is not None else None
        return _Rendered(text, self._answer_spans(messages, text, learned_from) if spans is None else spans)

    def _skeleton(self, roles: tuple[str, ...], learned_from: int) -> Skeleton | None:
        """What the template writes around the turns of a conversation with these roles; None where it cannot be told.

        Found out once for each sequence of roles: rendering every beginning of every conversation takes long.
        """
        shape = (roles, learned_from)
        if shape not in self._skeletons and len(self._skeletons) < _MOST_SKELETONS:
            stand_ins = [Message(role=role, content=stand_in(index)) for index, role in enumerate(roles)]
            try:
                text = self._template.render(stand_ins)
                found = None
                # A template that writes earlier turns unlike the last one is looked at closely, row by row.
                if all(text.startswith(self._template.render(stand_ins[:end])) for end in range(1, len(roles))):
                    found = Skeleton.of(text, self._answer_spans(stand_ins, text, learned_from))
            except TemplateMismatch:
                found = None
            self._skeletons[shape] = found
        return self._skeletons.get(shape)

    def _ended_text(self, ids: list[int]) -> Encoded:
        if not ids or ids[-1] != self._end_of_text_id:
            ids = [*ids, self._end_of_text_id]
        return Encoded(ids, [False] + [True] * (len(ids) - 1))

    def _counted_text(self, ids: list[int]) -> Counted:
        tokens = len(ids) + (not ids or ids[-1] != self._end_of_text_id)
        return Counted(tokens, tokens - 1)

    def _answer_spans(self, messages: Sequence[Message], text: str, learned_from: int) -> list[tuple[int, int]]:
        """Where the answers stand in the rendered text, as character ranges.

        A turn begins where the text rendered up to it, with the prompt for an answer, ends. That only means anything
        if this text is a prefix of the whole; a template for which it is not would put the mask on wrong tokens.
        """
        spans: list[tuple[int, int]] = []
        last = 0
        for index, message in enumerate(messages):
            if message["role"] != "assistant" or index < learned_from:
                continue
            before = self._template.render(messages[:index], add_generation_prompt=True) if index else ""
            if not text.startswith(before) or len(before) < last:
                raise _does_not_line_up(index)
            is_last = index == len(messages) - 1
            end = self._end_of_turn(text, len(before), message["content"], messages[: index + 1], is_last)
            if end is None:
                raise _does_not_line_up(index)
            spans.append((len(before), end))
            last = end
        return spans

    def _end_of_turn(self, text: str, start: int, content: str, until: Sequence[Message], is_last: bool) -> int | None:
        """The character after the turn's end mark; None if the template hides where that is."""
        rendered = text if is_last else self._template.render(until)
        if rendered == text[: len(rendered)] and len(rendered) >= start:
            turn = rendered[start:]
            mark = turn.rfind(self._turn_end) if self._turn_end else -1
            # What follows the mark (mostly a line break) belongs to the frame around the turn, not to the answer.
            if mark >= 0 and not turn[mark + len(self._turn_end) :].strip():
                return start + mark + len(self._turn_end)
            return len(rendered)
        # Some templates render an earlier answer unlike the last one (without its reasoning, say).
        found = text.find(content.strip(), start)
        end = found + len(content.strip())
        if found < 0 or not self._turn_end or not text.startswith(self._turn_end, end):
            return None
        return end + len(self._turn_end)

    def _find_turn_end(self) -> str:
        """The special token the template closes an answer with, or nothing. Raises BadTemplate."""
        try:
            text = self._template.render(_PROBE)
        except TemplateMismatch as error:
            raise BadTemplate(
                f"The model's chat template does not take a plain question and answer. {error.detail}",
                hint="Use the chat or instruct version of the model.",
            ) from error
        tail = text[text.rfind("Answer") + len("Answer") :] if "Answer" in text else ""
        for token in self._tokenizer.encode(tail.strip(), add_special_tokens=False).ids:
            if token in self._tokenizer.get_added_tokens_decoder():
                mark = self._tokenizer.id_to_token(token)
                return mark if mark is not None and mark in tail else ""
        return ""


def _does_not_line_up(index: int) -> TemplateMismatch:
    return TemplateMismatch(
        f"The model's chat template rewrites earlier turns, so the answer in message {index + 1} cannot be told from "
        "what surrounds it.",
        hint="Split the conversation into shorter ones that end with this answer, or leave the system message out.",
    )


def _tokens_in(spans: Sequence[tuple[int, int]], encoding: Encoding) -> list[bool]:
    """Which tokens lie in one of the ascending character ranges; one that begins before a range is not in it."""
    learned = [False] * len(encoding.ids)
    if not spans:
        return learned
    remaining = iter(spans)
    start, end = next(remaining)
    for position, (first, after) in enumerate(encoding.offsets):
        while first >= end:
            following = next(remaining, None)
            if following is None:
                return learned
            start, end = following
        learned[position] = position > 0 and start <= first < after
    return learned


def _count_in(spans: Sequence[tuple[int, int]], encoding: Encoding) -> int:
    """How many tokens `_tokens_in` would mark. Where tokens begin never decreases."""
    offsets = encoding.offsets
    count = 0
    for start, end in spans:
        from_token, to_token = bisect_left(offsets, (start,)), bisect_left(offsets, (end,))
        count += len([first for first, after in offsets[max(1, from_token) : to_token] if first < after])
    return count


def _in_pairs(sides: Sequence[_Made | TemplateMismatch]) -> list[tuple[_Made, _Made] | TemplateMismatch]:
    """Sides two by two; a refusal of either stands for both."""
    pairs: list[tuple[_Made, _Made] | TemplateMismatch] = []
    for better, worse in zip(sides[::2], sides[1::2], strict=True):
        if isinstance(better, TemplateMismatch):
            pairs.append(better)
        else:
            pairs.append(worse if isinstance(worse, TemplateMismatch) else (better, worse))
    return pairs


def _load_tokenizer(path: Path, config: Mapping[str, Any]) -> Tokenizer:
    if not path.is_file():
        raise TokenizerMissing(
            "The model folder has no tokenizer.json, so text cannot be turned into tokens.",
            hint="Add the model again with `btmctl models add`: an older kind of tokenizer is converted there.",
        )
    try:
        tokenizer = Tokenizer.from_file(str(path))
    # The library below is not Python and raises a bare Exception for whatever it cannot read.
    except Exception as error:
        raise TokenizerMissing(
            "The model's tokenizer.json is damaged and cannot be read.", hint="Fetch the model's files again."
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    known = tokenizer.get_added_tokens_decoder()
    for number, spec in sorted(config.get("added_tokens_decoder", {}).items(), key=lambda item: int(item[0])):
        if int(number) not in known and isinstance(spec, dict):
            token = AddedToken(
                spec["content"],
                single_word=spec.get("single_word", False),
                lstrip=spec.get("lstrip", False),
                rstrip=spec.get("rstrip", False),
                normalized=spec.get("normalized", False),
                special=spec.get("special", True),
            )
            tokenizer.add_special_tokens([token]) if token.special else tokenizer.add_tokens([token])
    return tokenizer


def _named_tokens(config: Mapping[str, Any], special_tokens_map: Mapping[str, Any]) -> dict[str, str]:
    """bos_token and the others by name; the tokenizer's configuration wins over the older file beside it."""
    named: dict[str, str] = {}
    for name in _NAMED_TOKENS:
        value = config.get(name, special_tokens_map.get(name))
        if isinstance(value, dict):
            value = value.get("content")
        if isinstance(value, str):
            named[name] = value
    return named


def _template_source(model_folder: Path, config: Mapping[str, Any]) -> str | None:
    file = model_folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    source = config.get("chat_template")
    if isinstance(source, list):
        by_name = {entry.get("name"): entry.get("template") for entry in source if isinstance(entry, dict)}
        source = by_name.get("default")
    return source if isinstance(source, str) else None


def _eos_ids(model_folder: Path, tokenizer: Tokenizer, eos_token: str | None) -> frozenset[int]:
    found: set[int] = set()
    for name in ("generation_config.json", "config.json"):
        value = _read_json(model_folder / name).get("eos_token_id")
        for token in value if isinstance(value, list) else [value]:
            if isinstance(token, int):
                found.add(token)
    own = tokenizer.token_to_id(eos_token) if eos_token is not None else None
    if own is not None:
        found.add(own)
    return frozenset(found)


def _end_of_text_id(tokenizer: Tokenizer, eos_token: str | None, eos_ids: frozenset[int]) -> int:
    own = tokenizer.token_to_id(eos_token) if eos_token is not None else None
    if own is not None:
        return int(own)
    usable = [token for token in eos_ids if tokenizer.id_to_token(token) is not None]
    if not usable:
        raise TokenizerMissing(
            "The model's tokenizer names no end-of-text token, so an answer could never end.",
            hint="Fetch tokenizer_config.json and generation_config.json of this model too.",
        )
    return min(usable)


def _adds_bos(tokenizer: Tokenizer, named: Mapping[str, str]) -> bool:
    bos = tokenizer.token_to_id(named["bos_token"]) if "bos_token" in named else None
    return bos is not None and tokenizer.encode("", add_special_tokens=True).ids[:1] == [bos]


def _read_json(path: Path) -> dict[str, Any]:
    """The file's object; empty when there is no such file. Raises NotAModel when it is not JSON."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise NotAModel(f"The model's {path.name} is not valid JSON.", hint="Fetch the file again.") from error
    return content if isinstance(content, dict) else {}
