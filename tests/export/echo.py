"""A format that costs nothing, for tests of what happens around formats."""

from __future__ import annotations

from kerasllm.export import formats
from kerasllm.export.formats import FORMATS, Engine, Format, Listed


class Echo(Format):
    """Writes a file, and says what the model says, but for an error.

    Attributes:
        error: What is added to all numbers.
        sources: What was exported so far.
    """

    def __init__(self):
        self.error = 0.0
        self.sources = []

    def write(self, source, folder, options):
        (folder / "weights.bin").write_bytes(b"weights")

    def predict(self, source, folder, options):
        assert (folder / "weights.bin").is_file()
        self.sources.append(source)
        return source.expected + self.error

    def engine(self):
        return Engine("an echo")

    def usage(self, source, options):
        return "Look at `weights.bin`."


def install_echo(monkeypatch) -> Echo:
    """Makes `echo` the name of the only format that can be loaded."""
    echo = Echo()
    monkeypatch.setitem(FORMATS, "echo", Listed("An echo", "none"))
    monkeypatch.setattr(formats, "load_format", lambda name: echo)
    return echo
