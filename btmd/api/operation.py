"""What can be asked: method, path and permission of each operation, and how a request becomes a function's arguments.

A parameter is taken from the request by its type: ``Parts``, ``Actor``, ``Request`` and ``Key`` (of idempotency) are
handed in, a name of the path comes from there, a msgspec struct is the JSON body, anything else is a query parameter.
What is allowed stands in the type (``Annotated[int, Meta(ge=1)]``) and is what the OpenAPI document says.
"""

import inspect
import math
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct, field
from starlette.requests import Request
from starlette.responses import Response

from btmd.api.budgets import Budgets
from btmd.api.idempotency import Key, earlier_answer, key_of
from btmd.api.parts import Parts
from btmd.api.permission import Named, Permission, require, require_thing
from btmd.domain.access import ADMIN
from btmd.domain.event import Actor
from btmd.errors import BadRequest, BtmdError, InvalidValue, TooMany
from btmd.fair_turns import asking_uid

Handler = Callable[..., Awaitable[Response]]
HINT = "/openapi.json describes every request."
_IN_PATH = re.compile(r"{(\w+)(?::\w+)?}")
_WHERE = re.compile(r" - at `\$\.?([^`]*)`$")
_UNKNOWN = "Object contains unknown field"
ONLY_READING = ("GET", "HEAD")
_OF_THINGS = (Permission.SEE, Permission.OWN)


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """The body of an operation that takes none: a field there was meant to do something, and would not."""


class Arguments(Struct, frozen=True):
    """Where a handler's parameters come from. ``path``, ``query`` and ``body`` are msgspec structs or None."""

    given: Mapping[str, Any]
    """Parts, Actor, Request or Key by the parameter's name."""
    path: type[msgspec.Struct] | None
    query: type[msgspec.Struct] | None
    several: frozenset[str]
    """Query parameters that may be given more than once, as they stand in the address."""
    body_name: str = ""
    body: type[msgspec.Struct] | None = None
    body_needed: bool = False
    takes_bytes: bool = False
    """Whether the handler reads a body that is no JSON by itself."""

    @classmethod
    def of(cls, handler: Handler, path: str, *, takes_bytes: bool = False) -> "Arguments":
        hints = get_type_hints(handler, include_extras=True)
        named = set(_IN_PATH.findall(path))
        given: dict[str, Any] = {}
        in_path: list[tuple[Any, ...]] = []
        in_query: list[tuple[Any, ...]] = []
        several: set[str] = set()
        body: dict[str, Any] = {}
        for name, parameter in inspect.signature(handler).parameters.items():
            kind = hints[name]
            needed = parameter.default is inspect.Parameter.empty
            if kind in (Parts, Actor, Request, Key):
                given[name] = kind
            elif name in named:
                in_path.append((name, kind))
            elif struct := _struct_in(kind):
                body = {"body_name": name, "body": _strict(struct), "body_needed": needed}
            else:
                in_query.append((name, kind) if needed else (name, kind, parameter.default))
                if any(get_origin(one) is list for one in _alternatives(kind)):
                    several.add(_in_address(name))
        missing = named - {name for name, *_ in in_path}
        assert not missing, f"{path}: nothing takes {missing}"
        body["takes_bytes"] = takes_bytes
        return cls(given, _struct("Path", in_path), _struct("Query", in_query), frozenset(several), **body)

    def has(self, name: str) -> bool:
        """Whether the address or the body has a field with this name."""
        return any(one is not None and name in one.__struct_fields__ for one in (self.path, self.query, self.body))

    @property
    def takes_key(self) -> bool:
        """Whether the same Idempotency-Key with the same request is answered the same."""
        return Key in self.given.values()

    async def bind(self, request: Request, parts: Parts, actor: Actor, key: Key) -> dict[str, Any]:
        """The handler's arguments. Raises BadRequest, InvalidValue."""
        at_hand: dict[Any, Any] = {Parts: parts, Actor: actor, Request: request, Key: key}
        bound: dict[str, Any] = {name: at_hand[kind] for name, kind in self.given.items()}
        if self.path is not None:
            bound |= _values(request.path_params, self.path)
        asked = request.query_params
        if request.method not in ONLY_READING:
            self._require_known(asked)
        if self.query is not None:
            values = {key: asked.getlist(key) if key in self.several else asked[key] for key in asked}
            bound |= _values(values, self.query)
        if self.body is not None:
            bound[self.body_name] = await self._body(request, self.body)
        elif request.method not in ONLY_READING and not self.takes_bytes:
            await self._body(request, Nothing)
        return bound

    def _require_known(self, asked: Iterable[str]) -> None:
        """A slip in a name (``dryrun``) must not change what was only to be looked at. Raises InvalidValue."""
        known = () if self.query is None else self.query.__struct_encode_fields__
        for name in asked:
            if name not in known:
                raise InvalidValue(f"There is no parameter `{name}` here.", hint=_taken(known))

    async def _body(self, request: Request, kind: type[msgspec.Struct]) -> msgspec.Struct | None:
        raw = await request.body()
        if not raw:
            if self.body_needed:
                raise InvalidValue("The request needs a JSON body.", hint=HINT)
            return None
        media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if media_type != "application/json" and not media_type.endswith("+json"):
            raise InvalidValue(f"The body is {media_type or 'of no type'}, not application/json.", hint=HINT)
        try:
            return msgspec.json.decode(raw, type=kind)
        except msgspec.ValidationError as error:
            raise _invalid(error, kind.__struct_encode_fields__) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise BadRequest("The body is not JSON.", hint=HINT) from None


class Operation(Struct, frozen=True):
    """One thing that can be asked. ``path`` is Starlette's form; ``described`` goes into the OpenAPI document."""

    method: str
    path: str
    permission: Permission
    handler: Handler
    arguments: Arguments
    tags: tuple[str, ...]
    described: Mapping[str, Any]
    things: tuple[Named, ...] = ()
    """What it names and takes a right to."""
    secret: bool = False
    """Whether its body holds something that nobody may guess from what is kept of the request."""

    async def __call__(self, request: Request) -> Response:
        parts: Parts = request.app.state.parts
        actor: Actor = request.state.peer
        asking_uid.set(actor.uid)
        # Before anything of the request is read: who may not ask learns nothing.
        role = await require(self.permission, actor, parts)
        if role != ADMIN and request.method not in ONLY_READING and not self.arguments.takes_bytes:
            _require_moderate(request.app.state.changes, request.app.state.written, actor)
        key = await key_of(request, actor, secret=self.secret) if self.arguments.takes_key else None
        bound = await self.arguments.bind(request, parts, actor, key)
        # Before anything is looked up: what was named may be gone since, or be somebody else's.
        earlier = await earlier_answer(parts, key)
        if earlier is not None:
            return earlier
        if role != ADMIN:
            for named in self.things:
                await self._require(named, bound, actor, parts)
        return await self.handler(**bound)

    async def _require(self, named: Named, bound: dict[str, Any], actor: Actor, parts: Parts) -> None:
        """See that the thing may be used, and put its id in the place of what it was called.

        A name may mean another thing a moment later, ``last`` above all: what was looked at is what is meant.
        """
        holder = bound.get(self.arguments.body_name)
        text = bound.get(named.field, getattr(holder, named.field, None))
        if not text:
            return
        thing_id = await require_thing(self.permission, named, text, actor, parts)
        if named.field in bound:
            bound[named.field] = thing_id
        else:
            assert isinstance(holder, msgspec.Struct)
            bound[self.arguments.body_name] = msgspec.structs.replace(holder, **{named.field: thing_id})


def _require_moderate(changes: Budgets, written: Budgets, actor: Actor) -> None:
    """Nobody fills the log, which forgets nothing. Raises TooMany."""
    spent = written if written.is_spent(actor.uid) else changes if changes.take(actor.uid) is None else None
    if spent is not None:
        wait_s = max(1, math.ceil(spent.wait_s(actor.uid)))
        refused = TooMany("You change more than this daemon records of one user.", hint=f"Wait {wait_s} s.")
        refused.wait_s = wait_s
        raise refused


class Router(Struct):
    """The operations of one noun."""

    prefix: str = ""
    tags: tuple[str, ...] = ()
    operations: list[Operation] = field(default_factory=list)


def operation(
    router: Router,
    method: str,
    path: str,
    permission: Permission,
    *things: Named,
    secret: bool = False,
    **described: Any,
) -> Callable[[Handler], Handler]:
    """Register an operation with its one permission; there is no other way in.

    ``things`` are those that it names and the user needs a right to. ``secret``: its body holds a passphrase or a key.
    ``described``: ``responses`` by status, and ``request_body`` where it is not JSON, as OpenAPI has them.
    """
    whole = router.prefix + path

    def register(handler: Handler) -> Handler:
        arguments = Arguments.of(handler, whole, takes_bytes="request_body" in described)
        for named in things:
            assert arguments.has(named.field), f"{method} {whole}: nothing is called {named.field}"
        assert things or permission not in _OF_THINGS, f"{method} {whole}: whose?"
        router.operations.append(
            Operation(method, whole, permission, handler, arguments, router.tags, described, things, secret)
        )
        return handler

    return register


def by_path(operations: Iterable[Operation]) -> dict[str, dict[str, Operation]]:
    """Operations by path and method, in the order in which the paths were first named."""
    found: dict[str, dict[str, Operation]] = {}
    for one in operations:
        methods = found.setdefault(one.path, {})
        assert one.method not in methods, f"{one.method} {one.path} is there twice"
        methods[one.method] = one
    return found


def _struct_in(kind: Any) -> type[msgspec.Struct] | None:
    return next((one for one in _alternatives(kind) if inspect.isclass(one) and issubclass(one, msgspec.Struct)), None)


def _alternatives(kind: Any) -> list[Any]:
    """The types that a hint allows, without None and without what is said of them."""
    if get_origin(kind) is Annotated:
        return _alternatives(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return [one for part in get_args(kind) if part is not NoneType for one in _alternatives(part)]
    return [kind]


def _in_address(name: str) -> str:
    # A name that Python keeps for itself is written with a line behind it.
    return name.rstrip("_")


def _struct(name: str, fields: list[tuple[Any, ...]]) -> type[msgspec.Struct] | None:
    return msgspec.defstruct(name, fields, kw_only=True, rename=_in_address) if fields else None


def _values(given: Mapping[str, Any], struct: type[msgspec.Struct]) -> dict[str, Any]:
    try:
        # Not strict: everything in an address is text.
        return msgspec.structs.asdict(msgspec.convert(given, struct, strict=False))
    except msgspec.ValidationError as error:
        raise _invalid(error) from None


def _invalid(error: msgspec.ValidationError, fields: Iterable[str] = ()) -> BtmdError:
    """``Expected `int`, got `str` - at `$.seed` `` as ``seed: expected `int`, got `str`.``"""
    text = str(error)
    where = _WHERE.search(text)
    what = text[: where.start()] if where else text
    hint = HINT
    if what.startswith(_UNKNOWN):
        what = f"There is no field{what.removeprefix(_UNKNOWN)} here"
        hint = HINT if where else _taken(fields)
    named = f"{where[1]}: {what[:1].lower()}{what[1:]}" if where and where[1] else what
    return InvalidValue(named if named.endswith(".") else named + ".", hint=hint)


def _taken(names: Iterable[str]) -> str:
    return f"What can be given: {', '.join(names) or 'nothing'}."


@cache
def _strict(struct: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """The same body, with unknown fields refused: a slip in a name must not be taken for a default."""
    namespace = {"__doc__": struct.__doc__}
    return msgspec.defstruct(
        struct.__name__,
        [],
        bases=(struct,),
        module=struct.__module__,
        namespace=namespace,
        forbid_unknown_fields=True,
    )
