"""Tells the layout of a dataset from its columns' names and a sample of its records, or says what has to be asked."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from btmd.errors import RatedAnswers, UnknownLayout
from btmd.reading import names as known
from btmd.reading.layouts import SIDES, Grouping, Layout
from btmd.reading.names import Names, plain
from btmd.reading.ordering import is_orderable
from btmd.reading.speakers import who_speaks
from btmd.reading.suggestions import suggest, unclear
from btmd.reading.transcripts import recognised_turns
from btmd.reading.turns import FIRST, OTHERS, Roles, pair_fields, role_field, role_of

Records = Sequence[Mapping[str, Any]]

_WEAK: Final = frozenset(
    ("user", "human", "input", "inputs", "eingabe", "q", "ask", "a", "bot", "gpt", "chatbot", "assistant")
)
"""Names that also mean something else; they count where no other name does."""
_TOGETHER: Final = (("solution", "answer"), ("best_answer", "correct_answer"))
"""Answers of which the first is the one to learn: the other is its result alone."""
_ONLY_IN_LISTS_OF_TURNS: Final = ("history", "chat_history")
_METADATA: Final = frozenset(
    (
        *(
            "id",
            "_id",
            "uid",
            "uuid",
            "url",
            "uri",
            "link",
            "date",
            "timestamp",
            "time",
            "created_at",
            "source",
            "lang",
        ),
        *("language", "author", "meta", "metadata", "score", "path", "file", "filename", "file_name", "repo"),
        *("repo_name", "license", "licence", "size", "length", "tokens", "token_count", "n_tokens", "hash", "domain"),
        *("category", "tags", "topic", "index", "unnamed:_0", "__index_level_0__", "doc_id", "document_id", "page"),
        *("word_count", "version", "split", "dump", "file_path", "sprache", "datum", "quelle"),
    )
)


def detect_layout(records: Records, columns: Sequence[str], *, roles: Roles | None = None) -> Layout:
    """Tell the layout. ``records`` are the first ones of the file; ``roles`` are names of roles that a person told.

    Raises UnknownLayout with suggestions where more than one is possible, RatedAnswers.
    """
    named = Names(columns)
    roles = roles or {}
    split = _split(named, records)
    _refuse_rated(named, records)
    found = (
        _compared(named, records, split)
        or _tree(named, split, roles)
        or _list_of_turns(named, records, split, roles)
        or _one_message_a_record(named, records, split, roles)
        or _pair(named, records, split)
        or _list_of_turns(named, records, split, roles, names=_ONLY_IN_LISTS_OF_TURNS)
        or _text(named, records, split)
    )
    if found is None:
        raise _unknown(records, columns)
    return found


def _split(named: Names, records: Records) -> str | None:
    if (column := named.get("split")) is not None:
        return column
    for column in named.every(known.SPLIT):
        values = {str(record.get(column)).strip().lower() for record in records if record.get(column) is not None}
        if values and values <= SIDES.keys():
            return column
    return None


def _refuse_rated(named: Names, records: Records) -> None:
    rated = named.first(known.RATED)
    asked, answered = named.first((*known.PROMPT, *known.INSTRUCTION, *known.QUESTION)), named.first(known.ANSWER)
    if rated is None or asked is None or answered is None:
        return
    values = [record[rated] for record in records if record.get(rated) is not None]
    if values and all(str(value).lower() in ("true", "false", "0", "1", "0.0", "1.0") for value in values):
        raise RatedAnswers(
            f"Column '{rated[:40]}' says of single answers whether they are good. Bad ones would be learned with the "
            "good ones, and a preference needs two answers to one question.",
            hint="Keep the good answers only and leave the column out, or give pairs as chosen and rejected.",
        )


def _compared(named: Names, records: Records, split: str | None) -> Layout | None:
    pairs: list[tuple[str, str, str | None, str]]
    pairs = [(better, worse, None, "") for better, worse in known.COMPARED]
    pairs += [
        (one, other, verdict, first_wins)
        for one, other, verdicts, first_wins in known.JUDGED
        if (verdict := named.first(verdicts)) is not None
    ]
    for better, worse, verdict, first_wins in pairs:
        chosen, rejected = named.get(better), named.get(worse)
        if chosen is None or rejected is None:
            continue
        return Layout(
            "preference",
            prompt=named.first(known.ASKED) or _asked_in_turns(named, records, but=(chosen, rejected)),
            system=named.first(known.SYSTEM),
            chosen=chosen,
            rejected=rejected,
            verdict=verdict,
            first_wins=first_wins,
            split=split,
        )
    return None


def _asked_in_turns(named: Names, records: Records, *, but: Sequence[str]) -> str | None:
    """A column with the turns before the two answers."""
    for column in named.every(known.CONVERSATION, but=but):
        lists = [value for record in records if isinstance(value := record.get(column), list) and value]
        last = [role_of(role_field(value[-1]), {}) for value in lists if isinstance(value[-1], dict)]
        if last and "assistant" not in last:
            return column
    return None


def _tree(named: Names, split: str | None, roles: Roles) -> Layout | None:
    own, parent, tree = named.get("message_id"), named.get("parent_id"), named.get("message_tree_id")
    role, content = named.get("role"), named.first(known.CONTENT)
    if own is None or parent is None or tree is None or role is None or content is None:
        return None
    grouping = Grouping(tree, role, content, own_id=own, parent=parent)
    return Layout("message_tree", conversation="messages", roles=roles, split=split, grouping=grouping)


def _list_of_turns(
    named: Names, records: Records, split: str | None, roles: Roles, *, names: Sequence[str] = known.CONVERSATION
) -> Layout | None:
    for column in named.every(names):
        if plain(column) in _ONLY_IN_LISTS_OF_TURNS and names is known.CONVERSATION:
            continue
        values = [value for record in records if (value := _as_list(record.get(column)))]
        if not values:
            continue
        name = "messages" if plain(column) == "messages" else "conversations"
        if all(isinstance(turn, str) for value in values for turn in value):
            if plain(column) != "data":
                continue
            return Layout(name, conversation=column, form="alternating", split=split)
        turns = [turn for value in values for turn in value]
        if not _are_turns(turns):
            continue
        if not roles and _have_unknown_roles(values):
            raise _unknown_roles(column)
        return Layout(name, conversation=column, system=named.first(known.SYSTEM), roles=roles, split=split)
    return None


def _as_list(value: Any) -> list[Any]:
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        # An export of nested data as a table; whether it is whole is seen when its row is made.
        return [{"role": "user"}]
    if isinstance(value, dict) and isinstance(value.get("messages"), list):
        value = value["messages"]
    return value if isinstance(value, list) else []


def _are_turns(turns: Sequence[Any]) -> bool:
    """Whether most of these have a role and a text, or two texts."""
    good = 0
    for turn in turns:
        if isinstance(turn, dict):
            good += role_field(turn) is not None or pair_fields(turn) is not None
        elif isinstance(turn, list):
            good += len(turn) == 2 and all(isinstance(text, str) for text in turn)
    return good * 2 >= len(turns)


def _have_unknown_roles(values: Sequence[list[Any]]) -> bool:
    """Whether in more than half of the conversations somebody speaks who is not known."""
    unknown = 0
    for turns in values:
        spoken = [role_field(turn) for turn in turns if isinstance(turn, dict)]
        unknown += any(role is not None and role_of(role, {}) is None for role in spoken)
    return unknown * 2 > len(values)


def _unknown_roles(column: str) -> UnknownLayout:
    mapping = {"conversation": column, f"role:{FIRST}": "user", f"role:{OTHERS}": "assistant"}
    return unclear(
        f"Column '{column[:40]}' holds conversations, but who speaks is called by names that are not known.",
        (mapping,),
    )


def _one_message_a_record(named: Names, records: Records, split: str | None, roles: Roles) -> Layout | None:
    thread, content = named.first(known.THREAD), named.first(known.CONTENT)
    role = _role_column(named, records, roles, but=(thread, content))
    if content is None or _asks_and_answers(named):
        return None
    if role is not None and thread is None:
        raise unclear(
            f"Every row is one message (column '{role[:40]}' says whose), but it cannot be told which column says "
            "which messages belong together.",
            suggest(records, named.columns, grouped=(role, content)),
        )
    if role is None:
        _ask_who_speaks(named, records, thread, content)
    if role is None or thread is None:
        return None
    order = order_column(named, records, but=(thread, role, content))
    return Layout(
        "grouped_messages",
        conversation="messages",
        roles=roles,
        split=split,
        grouping=Grouping(thread, role, content, order),
    )


def _ask_who_speaks(named: Names, records: Records, thread: str | None, content: str) -> None:
    """Raises UnknownLayout where rows are messages of people whose names do not say who asks and who answers."""
    if thread is not None:
        speaker = who_speaks(records, thread, named.columns, but=(content,))
        said = f"Rows with the same '{thread[:40]}' look like one conversation"
    else:
        speaker = named.first(known.SPEAKER, but=(content,))
        values = [str(record[speaker]) for record in records if speaker and record.get(speaker) not in (None, "")]
        if not 1 < len(set(values)) <= max(2, len(values) // 2):
            return
        said = "Every row looks like one message, but it cannot be told which column says what belongs together"
    if speaker is not None:
        raise unclear(
            f"{said}; column '{speaker[:40]}' seems to say who speaks, by names that are not known.",
            suggest(records, named.columns, grouped=(speaker, content)),
        )


def _role_column(named: Names, records: Records, roles: Roles, *, but: Sequence[str | None]) -> str | None:
    """The column whose values are names of roles, of both sides."""
    for column in named.every(known.ROLE, but=but):
        found = {role_of(record[column], roles) for record in records if record.get(column) not in (None, "")}
        if None not in found and {"user", "assistant"} <= found:
            return column
    return None


def order_column(named: Names, records: Records, *, but: Sequence[str | None]) -> str | None:
    """The column with numbers or times by which messages can be put in order."""
    for column in named.every(known.ORDER, but=but):
        values = [record.get(column) for record in records]
        if len(set(map(str, values))) > 1 and is_orderable(values):
            return column
    return None


def _asks_and_answers(named: Names) -> bool:
    strong = [plain(column) for column in named.every((*known.PROMPT, *known.INSTRUCTION, *known.QUESTION))]
    answers = [plain(column) for column in named.every(known.ANSWER)]
    return bool(set(strong) - _WEAK) and bool(set(answers) - _WEAK)


def _pair(named: Names, records: Records, split: str | None) -> Layout | None:
    asked, layout = _asked(named, records)
    system, history = named.first(known.SYSTEM), named.first(known.HISTORY)
    answered = _answered(named, records, but=(asked, system))
    if asked is None and answered is not None and plain(answered) not in _WEAK:
        # Conversations with a counsellor are often kept as what was said before and the answer.
        asked, layout = named.first(("context", "contexte", "kontext")), "question_answer"
    if asked is None or answered is None:
        return None
    context = named.first(known.CONTEXT, but=(asked, answered))
    if _is_multiple_choice(named, records, answered):
        raise unclear(
            "The answers look like numbers or letters of a choice whose texts stand in another column: the mark would "
            "be learned, not its text.",
            ({"prompt": asked, "completion": answered},),
        )
    return Layout(
        layout,
        prompt=asked,
        completion=answered,
        context=context,
        system=system,
        history=history if _holds_lists(history, records) else None,
        split=split,
    )


def _holds_lists(column: str | None, records: Records) -> bool:
    return column is not None and any(isinstance(record.get(column), list) for record in records)


def _asked(named: Names, records: Records) -> tuple[str | None, str]:
    instruction, prompt = named.first(known.INSTRUCTION), named.first(known.PROMPT)
    questions = _filled(_strong(named.every(known.QUESTION)), records)
    first = instruction or prompt
    if first is not None:
        others = [column for column in questions if plain(column) not in _WEAK]
        if others:
            raise _several("question", [first, *others], records, named)
        return first, "instruction" if first == instruction else "prompt_completion"
    if len(questions) > 1:
        raise _several("question", questions, records, named)
    return (questions[0] if questions else None), "question_answer"


def _answered(named: Names, records: Records, *, but: Sequence[str | None]) -> str | None:
    answers = _filled(_strong(named.every(known.ANSWER, but=but)), records)
    for learned, result in _TOGETHER:
        if {learned, result} == {plain(column) for column in answers}:
            return named.get(learned)
    if len(answers) > 1 and named.first((*known.PROMPT, *known.INSTRUCTION, *known.QUESTION, *known.CONTEXT)):
        raise _several("answer", answers, records, named)
    return answers[0] if len(answers) == 1 else None


def _strong(columns: Sequence[str]) -> list[str]:
    strong = [column for column in columns if plain(column) not in _WEAK]
    return strong or list(columns)[:1]


def _filled(columns: list[str], records: Records) -> list[str]:
    """Without those that hardly any record has, where another one is in most."""
    counts = {column: sum(record.get(column) is not None for record in records) for column in columns}
    most = [column for column in columns if counts[column] * 2 > len(records)]
    return [column for column in columns if column in most or counts[column] * 2 > max(counts.values())] or columns


def _several(what: str, columns: Sequence[str], records: Records, named: Names) -> UnknownLayout:
    shown = " or ".join(f"'{column[:40]}'" for column in columns[:5])
    return unclear(f"More than one column may be the {what}: {shown}.", suggest(records, named.columns))


def _is_multiple_choice(named: Names, records: Records, answered: str) -> bool:
    if named.first(known.CHOICES) is None:
        return False
    values = [str(record.get(answered)).strip() for record in records if record.get(answered) is not None]
    return bool(values) and all(len(value) <= 2 for value in values)


def _text(named: Names, records: Records, split: str | None) -> Layout | None:
    column = named.first(known.TEXT)
    if column is None:
        return None
    if _is_transcript(column, records):
        return Layout("transcript", conversation=column, form="transcript", split=split)
    others = {plain(one) for one in named.columns} - {plain(column)}
    asked = {plain(one) for one in named.every((*known.PROMPT, *known.INSTRUCTION, *known.QUESTION, *known.ANSWER))}
    if asked - _WEAK - {plain(column)} or named.first(known.LABEL) is not None:
        return None
    thread = named.first(known.THREAD, but=(column,))
    if thread is not None and named.first(known.ROLE, but=(column, thread)) is not None:
        return None
    if plain(column) in ("content", "document") and not others <= _METADATA:
        return None
    return Layout("text", text=column, split=split)


def _is_transcript(column: str, records: Records) -> bool:
    texts = list(_texts(column, records))
    return bool(texts) and sum(recognised_turns(text) is not None for text in texts) * 5 >= len(texts) * 4


def _texts(column: str, records: Records) -> Iterator[str]:
    return (text for record in records if isinstance(text := record.get(column), str) and text.strip())


def _unknown(records: Records, columns: Sequence[str]) -> UnknownLayout:
    shown = ", ".join(f"'{column[:40]}'" for column in columns[:20]) or "none"
    suggestions = suggest(records, columns)
    if len(columns) == 1:
        return unclear(
            f"The dataset has a single column, {shown}: a question without an answer cannot be learned from.",
            suggestions,
        )
    return unclear(
        f"It cannot be told which columns are question and answer. The columns are: {shown}.",
        suggestions,
    )
