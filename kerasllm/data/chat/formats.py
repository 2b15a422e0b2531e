"""The formats of conversation rows, detected from the names of their columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence

_LISTS = ("messages", "conversations", "conversation", "chat", "dialog", "dialogue")
_PROMPTS = (
    *("prompt", "question", "query", "instruction", "input", "message", "problem", "request"),
    *("user_prompt", "user_message"),
)
_RESPONSES = ("completion", "response", "answer", "output", "reply", "solution", "generation")
# What the prompt is about, after it.
_CONTEXTS = ("input", "context")
_SYSTEMS = ("system", "system_prompt", "system_message")
# Names that stand for a prompt or a response in company of each other alone.
_PAIRS = (
    *(("user", "assistant"), ("human", "assistant"), ("human", "gpt"), ("human", "bot")),
    *(("user", "bot"), ("user_message", "assistant_message"), ("inputs", "targets")),
    *(("input", "target"), ("context", "response")),
)
# With these an answer is the number or the letter of a choice.
_CHOICES = ("choices", "options")
PREFERENCE = "preference"
"""The name of the shape of preferences."""
CHOSEN, REJECTED = "chosen", "rejected"
# Their names, and what OpenAI calls them.
_ENDS = ((CHOSEN, REJECTED), ("preferred_output", "non_preferred_output"))
# UltraChat's list of texts; with other columns, the name means anything.
_TURNS, _BESIDE_TURNS = "data", {"id", "prompt_id", "source"}
_TOOLS = ("tools", "functions")
# Exchanges before the prompt.
_HISTORY = "history"
# What a row may lack.
_OPTIONAL = ("system", "prompt", "tools", _HISTORY)
# What is asked beside them.
_ASKED = ("prompt", "question", "instruction", "query", "input")
# What any row may be called, if it has such a column.
_PLAIN = "text"


@dataclasses.dataclass(frozen=True)
class Shape:
    """What a row holds, and in which columns.

    Args:
        name: `messages`, `sharegpt`, `alpaca`, `prompt_completion` or `preference`.
        columns: What a column holds, and its name, in the order in which they are read: of
            `messages`, or `system`, `user` and `assistant`, or `prompt`, `chosen` and `rejected`.
        certain: Whether the names can mean nothing else. Defaults to `True`.
    """

    name: str
    columns: tuple[tuple[str, str], ...]
    certain: bool = True

    def __str__(self) -> str:
        return ", ".join(
            f"{role} '{key}'" if role != key else f"'{key}'" for role, key in self.columns
        )

    @property
    def kind(self) -> tuple[str, ...]:
        """The columns that tell the shape from others; a row may lack the rest."""
        return (self.name, *self.needed)

    @property
    def is_preference(self) -> bool:
        """Whether a row holds a conversation that was chosen and one that was rejected."""
        return self.name == PREFERENCE

    @property
    def is_old(self) -> bool:
        """Whether versions before aliases read the same columns."""
        return tuple(key for _, key in self.columns) in _OLD[self.name]

    @property
    def needed(self) -> list[str]:
        """The columns that no row may lack: the first of each role but the system's."""
        roles = dict(reversed(self.columns))
        return [key for role, key in roles.items() if role not in _OPTIONAL]


class UnclearShape(ValueError):
    """Several columns could be the prompt, or the response; the message names them.

    Args:
        role: `"prompt"` or `"response"`.
        columns: The columns.
    """

    def __init__(self, role: str, columns: Sequence[str]):
        several = " and ".join(f"'{column}'" for column in columns)
        super().__init__(f"the columns {several} could each be the {role}")
        self.fix = f"name it: --set data.{role}={columns[0]}, or {' or '.join(columns[1:])}"


def find_shape(
    keys: Collection[str],
    format: str = "auto",
    *,
    prompt: str | None = None,
    response: str | None = None,
) -> Shape | None:
    """Tells the shape of rows by the names of their columns, in any case.

    Args:
        keys: The names.
        format: The name of a shape that is wanted, or `"auto"`. Defaults to `"auto"`.
        prompt: The column of what the user says. Defaults to `None`: it is found.
        response: The column of the assistant messages. Defaults to `None`: it is found.

    Returns:
        The shape, or `None` if the names tell none.

    Raises:
        UnclearShape: If more than one column could be the prompt, or the response.

    Example:
        >>> str(find_shape(["id", "system_prompt", "question", "response"]))
        "system 'system_prompt', user 'question', assistant 'response'"
    """
    names: dict[str, str] = {}
    for key in keys:
        names.setdefault(_plain(key), key)
    named = prompt is not None or response is not None
    finders = {
        "preference": _find_preference,
        "messages": _find_messages,
        "sharegpt": _find_messages,
        "alpaca": _find_alpaca,
        "prompt_completion": _find_prompt_completion,
    }
    if named:
        return _find_pair(names, prompt, response)
    if format == "auto":
        found = next(filter(None, (find(names) for find in finders.values())), None)
        return found or _find_pair(names)
    found = finders[format](names)
    if found is None and format in ("alpaca", "prompt_completion"):
        found = _find_pair(names)
    return found and dataclasses.replace(found, name=format)


def shape_of(keys: Collection[str]) -> str | None:
    """Names the shape of rows with these columns, or returns `None`.

    Args:
        keys: The names of the columns.

    Example:
        >>> shape_of(["instruction", "input", "output"])
        'alpaca'
    """
    try:
        found = find_shape(keys)
    except UnclearShape:
        return None
    return found.name if found else None


def known_shapes() -> str:
    """The names of the shapes with the columns that they need, a line each, for an error."""
    shapes = (
        "messages: messages",
        "sharegpt: conversations",
        "alpaca: instruction, output (or response); and input or context",
        f"prompt_completion: one of {', '.join(_PROMPTS[:5])},",
        f"  {', '.join(_PROMPTS[5:])},",
        f"  with one of {', '.join(_RESPONSES)}",
        "preference: chosen, rejected (or preferred_output, non_preferred_output); and prompt",
        f"and, next to any of them, {', '.join(_SYSTEMS)}; beside messages {', '.join(_TOOLS)}",
    )
    return "".join(f"\n           {shape}" for shape in shapes)


_OLD = {
    "preference": (("prompt", "chosen", "rejected"), ("chosen", "rejected")),
    "messages": (("messages",),),
    "sharegpt": (("conversations",), ("conversations", "system")),
    "alpaca": tuple(
        (*system, "instruction", *more, "output")
        for system in ((), ("system",))
        for more in ((), ("input",))
    ),
    "prompt_completion": (("prompt", "completion"),),
}


def _plain(key: str) -> str:
    """A name as it is looked for: `System Prompt` is `system_prompt`."""
    return key.strip().lower().replace(" ", "_").replace("-", "_")


def _system(names: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(("system", names[name]) for name in _SYSTEMS if name in names)[:1]


def _before(names: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((_HISTORY, names[name]) for name in (_HISTORY,) if name in names)


def _find_preference(names: Mapping[str, str]) -> Shape | None:
    ends = next((each for each in _ENDS if {*each} <= names.keys()), None)
    if ends is None:
        return None
    asked = [name for name in (*_ASKED, *_LISTS) if name in names][:1]
    # Each may be about something, but a conversation.
    about = [name for name in _CONTEXTS if name in names and name not in asked]
    about = about[:1] if asked and asked[0] in _ASKED else []
    columns = (*_system(names), *(("prompt", names[name]) for name in (*asked, *about)))
    sides = zip((CHOSEN, REJECTED), (names[end] for end in ends))
    return Shape("preference", (*columns, *sides))


def _find_messages(names: Mapping[str, str]) -> Shape | None:
    for name in _LISTS:
        if name in names:
            shape = "messages" if name == "messages" else "sharegpt"
            columns = (("messages", names[name]), *_system(names))
            columns += tuple(("tools", names[each]) for each in _TOOLS if each in names)[:1]
            return Shape(shape, columns, certain=name in ("messages", "conversations"))
    if _TURNS in names and names.keys() <= {_TURNS, *_BESIDE_TURNS}:
        return Shape("sharegpt", (("messages", names[_TURNS]),))
    if {"mapping", "current_node"} <= names.keys():
        return Shape("sharegpt", (("tree", names["mapping"]), ("last", names["current_node"])))
    if "chat_messages" in names:
        return Shape("sharegpt", (("exported", names["chat_messages"]),))
    return None


def _find_alpaca(names: Mapping[str, str]) -> Shape | None:
    if not {"instruction", "output"} <= names.keys():
        return None
    more = tuple(("user", names[name]) for name in _CONTEXTS if name in names)[:1]
    columns = (*_system(names), *_before(names), ("user", names["instruction"]), *more)
    return Shape("alpaca", (*columns, ("assistant", names["output"])))


def _find_prompt_completion(names: Mapping[str, str]) -> Shape | None:
    if not {"prompt", "completion"} <= names.keys():
        return None
    pair = (("user", names["prompt"]), ("assistant", names["completion"]))
    return Shape("prompt_completion", (*_system(names), *_before(names), *pair))


def _find_pair(
    names: Mapping[str, str], prompt: str | None = None, response: str | None = None
) -> Shape | None:
    """Finds the columns of prompts and responses; one or both may be named."""
    known = [key for key in (prompt, response) if key is not None]
    if prompt is None:
        free = [name for name in _PROMPTS if name in names and names[name] not in known]
        # Beside another prompt it is what that is about.
        if len(free) > 1 and "input" in free and "instruction" in free:
            free.remove("input")
        prompts = [names[name] for name in free]
    else:
        prompts = [prompt]
    responses = [names[name] for name in _RESPONSES if name in names and names[name] not in known]
    responses = responses if response is None else [response]
    if not known and not (prompts and responses):
        pairs = [(names[p], names[r]) for p, r in _PAIRS if {p, r} <= names.keys()]
        if len(pairs) != 1:
            return None
        prompts, responses = ([key] for key in pairs[0])
    if not prompts or not responses or (not known and {*_CHOICES} & names.keys()):
        return None
    for role, found in (("prompt", prompts), ("response", responses)):
        if len(found) > 1:
            raise UnclearShape(role, found)
    taken = (prompts[0], responses[0])
    more = tuple(
        ("user", names[name])
        for name in _CONTEXTS
        if name in names and names[name] not in taken and prompt is None
    )
    asked = (*_before(names), ("user", prompts[0]), *more)
    columns = (*_system(names), *asked, ("assistant", responses[0]))
    alpaca = _plain(prompts[0]) == "instruction"
    return Shape(
        "alpaca" if alpaca else "prompt_completion",
        columns,
        certain=bool(known) or _PLAIN not in names,
    )
