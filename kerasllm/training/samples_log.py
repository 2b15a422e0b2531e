"""The samples generated during training: samples.jsonl."""

from __future__ import annotations

import json
from pathlib import Path

from kerasllm.json_files import parse_json
from kerasllm.run import write_text
from kerasllm.training.listeners import Listener


class SamplesLog(Listener):
    """Writes samples to a JSON-lines file: `step`, `prompt`, `text`.

    There is no file until there is a sample.

    Args:
        path: The file. Defaults to `None`: nothing is written.
        done: Steps that were done before a resume; later samples are written again. Defaults to
            `0`.
    """

    def __init__(self, path: Path | None = None, done: int = 0):
        self._path = path
        if path is not None and path.is_file():
            # Not `splitlines`: a text may hold other ends of lines.
            lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
            kept = [f"{line}\n" for line in lines if _step(line) <= done]
            write_text(path, "".join(kept)) if kept else path.unlink()

    def samples(self, step, samples):
        """Writes the samples of a step."""
        if self._path is None:
            return
        with open(self._path, "a", encoding="utf-8", errors="backslashreplace") as file:
            for prompt, text in samples:
                row = {"step": step, "prompt": prompt, "text": text}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _step(line: str) -> float:
    """Returns the step of a line, of one that cannot be read infinity."""
    try:
        return parse_json(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")
