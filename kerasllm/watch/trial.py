"""A process that has the model of one run open, and tries texts with it for the page.

    python -m kerasllm.watch.trial RUN

It writes a line of JSON when the model is open, `{"fields": [..]}`, or `{"error": ..}`; then an
answer for each line that it reads, `{"texts": [..]}`. It ends with its input.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from kerasllm.errors import KerasllmError
from kerasllm.serving.refusal import Refusal
from kerasllm.serving.validation import validated

_NEW_TOKENS = 64
_MOST_CHARACTERS = 20_000
# Of a text: entities, say, that are explained, and seconds after which no further one is.
_MOST_EXPLAINED, _SECONDS = 8, 20


def main() -> int:
    """Runs until its input ends; returns the exit status."""
    answers, sys.stdout = sys.stdout, sys.stderr  # What libraries print is no answer.

    def write(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    try:
        trial = _Trial(sys.argv[1])
    except KerasllmError as error:
        write({"error": _told(error)})
        return 1
    write({"fields": trial.fields})
    for line in sys.stdin:
        write(_answer(trial, line))
    return 0


def _answer(trial: _Trial, line: str) -> dict[str, Any]:
    try:
        return trial.answer(json.loads(line)["texts"])
    except KerasllmError as error:
        return {"error": _told(error)}
    except Refusal as error:
        return {"error": error.message}
    except Exception as error:  # noqa: BLE001 - the page says it, and stays
        return {"error": f"{type(error).__name__}: {error}"}


class _Trial:
    def __init__(self, run: str):
        from kerasllm.runtime.startup import prepare_process

        prepare_process(lean=True)
        from kerasllm.explain.explainer import Explainer
        from kerasllm.serving.limits import Limits
        from kerasllm.tasks.task import explains
        from kerasllm.workflows.trained import open_trained

        self._trained = open_trained(run)
        # Explanations are computed in it.
        model = self._trained.open(precision="float32")
        self._explainer = Explainer(model, self._trained.task)
        self._api = self._trained.task.api(model, Limits())
        self._explains = explains(self._trained.task)
        writes = self._api.generator is not None
        self.fields = ["prompt"] if writes else list(self._api.Instance.model_fields)

    def answer(self, texts: list[str]) -> dict[str, Any]:
        """Returns what the model makes of texts, one for each field, and why."""
        if sum(map(len, texts)) > _MOST_CHARACTERS:
            raise KerasllmError(f"The text is longer than {_MOST_CHARACTERS:,} characters")
        found = {"outputs": self._outputs(texts)}
        if self._explains:
            found |= self._explained(texts)
        return found

    def _outputs(self, texts: list[str]) -> dict[str, Any]:
        if (generator := self._api.generator) is None:
            given = {name: text for name, text in zip(self.fields, texts) if text}
            return self._api.predict([validated(self._api.Instance, given)])[0]
        from kerasllm.generation.settings import GenerationSettings

        chat = generator.chats
        generator.settings = GenerationSettings(max_new_tokens=_NEW_TOKENS)
        message = [{"role": "user", "content": texts[0]}]
        prompt = generator.encode_chat(message) if chat else generator.encode(texts[0])
        return {"text": generator.generate([prompt], chat=chat)[0].text}

    def _explained(self, texts: list[str]) -> dict[str, Any]:
        from kerasllm.workflows.explain import explain

        given = tuple(text for text in texts if text)
        inputs = given if len(given) > 1 else given[0]
        found, ends = [], time.monotonic() + _SECONDS
        try:
            for one in explain(self._trained, [inputs], explainer=self._explainer):
                if len(found) == _MOST_EXPLAINED or time.monotonic() > ends:
                    return {"explained": found, "more": True}
                found.append(_shown(one))
        except KerasllmError as error:
            return {"explained": found, "unexplained": _told(error)}
        return {"explained": found}


def _shown(found: Any) -> dict[str, Any]:
    """Returns what the page shows of an explanation: of an entity, say, or of the label."""
    return {
        "target": found.target,
        "method": found.method,
        "words": [[word.word, word.score] for word in found.words if word.score is not None],
        "completeness_error": found.relative_error,
    }


def _told(error: KerasllmError) -> str:
    return ": ".join(str(part) for part in (error.what, error.fix) if part)


if __name__ == "__main__":
    sys.exit(main())
