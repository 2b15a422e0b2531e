"""`kerasllm chat`: turns from a pipe, commands, what is dropped, and Ctrl-C."""

import io
import sys

import pytest

from tests.generation.conftest import opened, writer  # noqa: F401


@pytest.fixture
def chat(kerasllm, opened, monkeypatch):
    """Holds a conversation whose lines are given, and returns what was shown."""

    def hold(*lines, options=("--max-new-tokens", 4)):
        monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines) + "\n"))
        result = kerasllm("chat", "tiny", *options)
        assert result.status == 0, result.err
        return result

    return hold


def test_turns_build_on_each_other_and_can_be_forgotten(chat):
    first, second = chat("word1", "word2").out.splitlines()
    lines = ("word1", "word3", "/undo", "word2", "/reset", "word2", "/reset", "word1", "/quit", "w")
    again, _, undone, forgotten, last = chat(*lines).out.splitlines()
    assert again == last == first and undone == second and forgotten != second


def test_a_system_message_counts(chat):
    told = chat("word1", options=("--max-new-tokens", 4, "--system", "word9")).out.strip()
    lines = chat("word1", "/reset", "/system word9", "word1").out.splitlines()
    assert lines[1] == told != lines[0]


def test_marks_of_files_and_empty_system_messages_say_nothing(chat):
    plain, told = chat("word1"), ("--max-new-tokens", 4, "--system")
    assert chat("\ufeffword1").out == plain.out
    assert chat("word1", options=(*told, "\ufeff ")).out == plain.out
    assert (
        chat("word1", options=(*told, "\ufeffword9")).out
        == chat("word1", options=(*told, "word9")).out
    )


def test_an_empty_answer_is_explained(chat):
    result = chat("word1", options=("--stop", "w", "--stop", "<"))
    assert result.out == "" and "The answer is empty" in result.err


def test_an_unknown_command_is_explained(chat):
    result = chat("/what")
    assert "no command /what" in result.err and "/reset" in result.err and not result.out


def test_the_oldest_turns_are_dropped_and_said_so(chat):
    long = " ".join(["word1"] * 12)
    result = chat(long, long, long)
    assert len(result.out.splitlines()) == 3 and "oldest 2 messages were dropped" in result.err


def test_a_message_that_is_too_long_leaves_the_conversation_as_it_was(chat):
    result = chat("word1", " ".join(["word1"] * 50), "word2")
    assert "the model reads 40" in result.err
    assert result.out == chat("word1", "word2").out


def test_ctrl_c_stops_the_answer_and_not_the_chat(chat, monkeypatch):
    from kerasllm.generation.generator import Generator

    stream, stopped = Generator.stream, []

    def interrupted(self, *arguments):
        for token in stream(self, *arguments):
            yield token
            if not stopped:
                stopped.append(token)
                raise KeyboardInterrupt

    monkeypatch.setattr(Generator, "stream", interrupted)
    result = chat("word1", "word2")
    assert "Stopped." in result.err and len(result.out.splitlines()) == 2
