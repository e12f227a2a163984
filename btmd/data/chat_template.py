"""Renders a model's own chat template as transformers does, without importing it.

Templates come with downloaded models, so they run in jinja2's immutable sandbox on plain strings only.
The text is the same, byte for byte, as ``apply_chat_template(..., tokenize=False)`` of transformers 5.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import jinja2
from jinja2 import nodes, pass_eval_context
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from btmd.data.rows import Message
from btmd.errors import BadTemplate, TemplateMismatch

PLAIN_TEMPLATE: Final = (
    "{{ bos_if_wanted }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ '### Assistant:\n' + message['content'] + eos_token + '\n' }}"
    "{% elif message['role'] == 'system' %}{{ '### System:\n' + message['content'] + '\n' }}"
    "{% else %}{{ '### User:\n' + message['content'] + '\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Assistant:\n' }}{% endif %}"
)
"""Used for a model that brings no template: headings any language model knows, answers ended by its own end token."""


class ChatTemplate:
    """A compiled template. ``special_tokens`` (``bos_token`` and so on) are variables in it.

    ``now`` is what ``strftime_now`` tells: some templates write today's date into the prompt, and a run resumed
    tomorrow must still see the tokens it began with. Raises BadTemplate when the template cannot be compiled.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, str], now: datetime) -> None:
        environment = _environment(now)
        try:
            self._template = environment.from_string(source)
        except (jinja2.TemplateError, ValueError) as error:
            raise BadTemplate(
                f"The model's chat template cannot be read: {_reason(error)}.",
                hint="Use a model whose tokenizer_config.json or chat_template.jinja is whole.",
            ) from error
        self._special_tokens = dict(special_tokens)

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
        """The text of a conversation. Raises TemplateMismatch when the template refuses it."""
        try:
            return self._template.render(
                **self._special_tokens,
                messages=list(messages),
                tools=None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
            )
        # A template is a program of somebody else's: whatever it raises means that it does not take these messages.
        except (jinja2.TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
            raise TemplateMismatch(
                f"The model's chat template does not accept this conversation: {_reason(error, messages)}.",
                hint="Start with a user's turn (after an optional system message) and let the roles alternate.",
            ) from error


def _reason(error: Exception, messages: Sequence[Message] = ()) -> str:
    """The template's own words, cut short; only the kind of error where they quote a message."""
    words = " ".join(str(error).split())
    if not words or any(message["content"] and message["content"] in str(error) for message in messages):
        return type(error).__name__
    return words[:200].rstrip(".")


def _environment(now: datetime) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = now.strftime
    environment.globals["namespace"] = _GuardedNamespace
    return environment


class _Generation(Extension):
    """Understands ``{% generation %}...{% endgeneration %}`` and prints what stands in it.

    Where the answer lies is found from the rendered prefixes for every template alike.
    """

    tags = {"generation"}  # noqa: RUF012 (jinja2 declares it so)

    def parse(self, parser: Parser) -> nodes.CallBlock:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        block = nodes.CallBlock(self.call_method("_print", []), [], [], body)
        block.set_lineno(line)
        return block

    @pass_eval_context
    def _print(self, _context: nodes.EvalContext, caller: Macro) -> str:
        return caller()


class _GuardedNamespace(Namespace):
    """A jinja2 namespace without underscored names, which lead into the interpreter."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, rest = args[0], args[1:]
        values: dict[str, Any] = dict(*rest, **kwargs)
        for name in values:
            _refuse_underscore(name)
        Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_underscore(name)
        super().__setitem__(name, value)


def _refuse_underscore(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError("a template may not store a name that begins with an underscore")


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # jinja2's own filter escapes HTML, which would change the text the model sees.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
