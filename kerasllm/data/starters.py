"""The bundled data sets, so that a first run needs no files."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from pathlib import Path

from kerasllm.errors import DataError

PREFIX = "starter:"

_FOLDER = Path(__file__).parent / "starter"


@dataclasses.dataclass(frozen=True)
class Starter:
    """A bundled data set.

    Args:
        files: Part (`"train"`, `"test"`) to file name in the folder `starter` beside this module.
        label_names: Label in the file to the name that users see; `None` if it has no labels, or
            the file holds the names.
        licence: The licence of the data; `starter/NOTICE.md` holds its text and the source.
        description: One line for lists.
    """

    files: Mapping[str, str]
    label_names: Mapping[str, str] | None
    licence: str
    description: str


STARTERS = {
    "movie_reviews": Starter(
        files={"train": "movie_reviews_train.csv", "test": "movie_reviews_test.csv"},
        label_names={"0": "negative", "1": "positive"},
        licence="MIT",
        description="Sentences of movie reviews, positive or negative: 8,049 and 2,023 rows",
    ),
    "paraphrases": Starter(
        files={"train": "paraphrases_train.csv.gz", "test": "paraphrases_test.csv.gz"},
        label_names=None,
        licence="CC BY-SA 4.0",
        description="Pairs of sentences, the same in meaning or different: 3,363 and 911 pairs",
    ),
    "sentence_similarity": Starter(
        files={
            "train": "sentence_similarity_train.csv.gz",
            "test": "sentence_similarity_test.csv.gz",
        },
        label_names=None,
        licence="CC BY-SA 4.0",
        description="Pairs of sentences, scored from 0 to 5 (STS benchmark): 5,738 and 1,500 pairs",
    ),
    "emotions": Starter(
        files={"train": "emotions_train.csv.gz", "test": "emotions_test.csv.gz"},
        label_names=None,
        licence="CC BY 4.0",
        description="Comments with one or more of 28 emotions (GoEmotions): 10,000 and 2,000 rows",
    ),
    "entities": Starter(
        files={"train": "entities_train.conll.gz", "test": "entities_test.conll.gz"},
        label_names=None,
        licence="CC BY 4.0",
        description="Posts with named entities of six types (WNUT-17): 3,394 and 1,009 sentences",
    ),
    "questions": Starter(
        files={"train": "questions_train.json.gz", "test": "questions_test.json.gz"},
        label_names=None,
        licence="MIT, CC BY-SA 3.0, CC BY 2.5",
        description="Questions on sentences with their answers (QAMR): 6,787 and 1,969 questions",
    ),
    "phrases": Starter(
        files={"train": "phrases_train.csv.gz", "test": "phrases_test.csv.gz"},
        label_names=None,
        licence="Apache-2.0",
        description="English sentences of a small grammar, and in German: 8,000 and 500 pairs",
    ),
    "chat": Starter(
        files={"train": "chat_train.jsonl", "test": "chat_test.jsonl"},
        label_names=None,
        licence="BSD",
        description="Questions and answers in English, as conversations: 834 and 65",
    ),
    "preferences": Starter(
        files={"train": "preferences_train.jsonl", "test": "preferences_test.jsonl"},
        label_names=None,
        licence="BSD",
        description="Questions with their own answer and that of another: 773 and 57 pairs",
    ),
    "moby_dick": Starter(
        files={"train": "moby_dick.txt"},
        label_names=None,
        licence="PDDL 1.0",
        description="Moby Dick; or, The Whale, one text of 1.2 MB",
    ),
}


def find_starter(spec: str, split: str) -> tuple[str, Path, Mapping[str, str] | None]:
    """Finds the bundled file that `starter:NAME` or `starter:NAME/PART` means.

    Args:
        spec: `starter:NAME`, or `starter:NAME/train`, `starter:NAME/test`.
        split: The part to take where the spec names none.

    Returns:
        The full name (`starter:NAME/PART`), the path of the file, and the names of its labels.

    Raises:
        DataError: There is no such data set, or it has no such part.

    Example:
        >>> find_starter("starter:movie_reviews", "train")[0]
        'starter:movie_reviews/train'
    """
    name, _, part = spec.removeprefix(PREFIX).partition("/")
    if name not in STARTERS:
        near = difflib.get_close_matches(name, STARTERS, n=1)
        raise DataError(
            f"There is no bundled data set '{name}'",
            where=spec,
            fix=(f"did you mean {PREFIX}{near[0]}? " if near else "")
            + f"bundled: {', '.join(PREFIX + known for known in STARTERS)}",
        )
    starter = STARTERS[name]
    part = part or split
    if part not in starter.files:
        fix = f"it has {' and '.join(f'{PREFIX}{name}/{known}' for known in starter.files)}"
        if part == "validation":
            fix += "; without data.validation, a part of the training rows is split off"
        raise DataError(f"The data set '{name}' has no part '{part}'", where=spec, fix=fix)
    return f"{PREFIX}{name}/{part}", _FOLDER / starter.files[part], starter.label_names
