"""Makes `starter:preferences` of `starter:chat`.

    python -m tests.data.make_preferences

The chosen answer to a question is its own, the rejected one an answer to a question of another
topic. Each answer is chosen once and rejected once, so that none is better by itself: what there
is to learn is to answer what was asked.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import kerasllm

STARTER = Path(kerasllm.__file__).parent / "data" / "starter"


def pairs_of(part: str) -> list[dict]:
    """Returns the rows of a part, by the chat rows of that part with one question."""
    lines = (STARTER / f"chat_{part}.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if len(row["messages"]) == 2]
    by_topic = sorted(range(len(rows)), key=lambda number: rows[number]["topic"])
    # As far as the largest topic is long: nobody meets their own.
    shift = max(Counter(row["topic"] for row in rows).values())
    rejected = dict(zip(by_topic, [*by_topic[shift:], *by_topic[:shift]], strict=True))
    found = []
    for number, row in enumerate(rows):
        question, answer = (message["content"] for message in row["messages"])
        other = rows[rejected[number]]
        assert other["topic"] != row["topic"]
        found.append(
            {"prompt": question, "chosen": answer, "rejected": other["messages"][1]["content"]}
        )
    return found


def text_of(part: str) -> str:
    """Returns the file of a part."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in pairs_of(part))


if __name__ == "__main__":
    for part in ("train", "test"):
        path = STARTER / f"preferences_{part}.jsonl"
        path.write_text(text_of(part), encoding="utf-8", newline="")
