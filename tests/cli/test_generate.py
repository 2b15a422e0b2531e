"""`kerasllm generate`: prompts from anywhere, texts to anywhere, streams on a terminal."""

import json
import sys

import pytest

from tests.generation.conftest import opened, writer  # noqa: F401


def test_each_prompt_gets_an_object_in_order(kerasllm, opened, tmp_path):  # noqa: F811
    prompts = ["word1 word2", "word3", "word4 word5 word6"]
    (tmp_path / "prompts.txt").write_text("\n".join(prompts) + "\n")
    told = ["--max-new-tokens", 6, "--temperature", 1.5, "--seed", 4]
    result = kerasllm("generate", "tiny", "--input", tmp_path / "prompts.txt", "--json", *told)
    assert result.status == 0, result.err
    rows = [json.loads(line) for line in result.out.splitlines()]
    assert [row["prompt"] for row in rows] == prompts
    for row in rows:
        assert row.keys() == {"prompt", "text", "tokens", "finish_reason", "seed", "chat"}
        assert row["seed"] == 4 and row["finish_reason"] in ("stop", "length")
        assert row["chat"] is False
    # Alone it is the same.
    alone = kerasllm("generate", "tiny", "--prompt", prompts[1], "--json", *told)
    assert json.loads(alone.out) == rows[1]


def test_a_terminal_shows_what_a_file_would_hold(kerasllm, opened, tmp_path, monkeypatch):  # noqa: F811
    arguments = ["generate", "tiny", "--prompt", "word1", "--max-new-tokens", 6]
    plain = kerasllm(*arguments)
    kerasllm(*arguments, "--output", tmp_path / "texts.jsonl")
    row = json.loads((tmp_path / "texts.jsonl").read_text())
    assert plain.out == row["text"] + "\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert kerasllm(*arguments).out.strip() == row["text"].strip()


def test_conversations_and_chat_use_the_template(kerasllm, opened, tmp_path):  # noqa: F811
    messages = [{"role": "user", "content": "word1"}]
    (tmp_path / "chats.jsonl").write_text(
        json.dumps({"messages": messages}) + "\n" + json.dumps({"prompt": "word1"}) + "\n"
    )
    told = ["--max-new-tokens", 6, "--json"]
    result = kerasllm("generate", "tiny", "--input", tmp_path / "chats.jsonl", *told)
    chat, plain = [json.loads(line) for line in result.out.splitlines()]
    assert chat["prompt"] == messages and plain["text"] != chat["text"]
    asked = kerasllm("generate", "tiny", "--prompt", "word1", "--chat", *told)
    assert json.loads(asked.out)["text"] == chat["text"]


def test_a_model_of_conversations_answers_and_says_so(kerasllm, opened, monkeypatch):  # noqa: F811
    told = ["generate", "tiny", "--prompt", "word1", "--max-new-tokens", 6, "--seed", 1, "--json"]
    plain, chat = kerasllm(*told), kerasllm(*told, "--chat")
    assert not plain.err and not chat.err  # Nothing is applied that was not asked for.
    monkeypatch.setattr(opened, "conversational", True, raising=False)
    answered = kerasllm(*told)
    assert answered.out == chat.out and json.loads(answered.out)["chat"] is True
    assert "its chat template is applied" in answered.err and "--no-chat" in answered.err
    back = kerasllm(*told, "--no-chat")
    assert back.out == plain.out and not back.err
    # On a terminal, too.
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    streamed = kerasllm(*told[:-1])
    assert streamed.out.strip() == json.loads(chat.out)["text"].strip()
    assert streamed.err == answered.err


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize(
    ("option", "advice"), [("--no-chat", "with --chat"), ("--chat", "try --no-chat")]
)
def test_an_empty_text_is_explained(kerasllm, opened, monkeypatch, terminal, option, advice):  # noqa: F811
    told = ["generate", "tiny", "--prompt", "word1", option, "--stop", "w", "--stop", "<"]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    result = kerasllm(*told)
    assert result.status == 0 and result.out == ""
    assert result.err.startswith("The text is empty: ") and advice in result.err
    assert len(result.err.splitlines()) == 1
    row = json.loads(kerasllm(*told, "--json").out)
    assert row["text"] == "" and row["chat"] is (option == "--chat")


def test_of_several_texts_the_empty_ones_are_counted(kerasllm, opened, tmp_path):  # noqa: F811
    told = ["generate", "tiny", "--prompt", "word1", "--prompt", "word2", "--stop", "w"]
    result = kerasllm(*told)
    assert "2 of 2 texts are empty" in result.err and result.out.count("(no text)") == 2
    one = kerasllm("generate", "tiny", "--prompt", "word1", "--output", tmp_path / "one.jsonl")
    assert one.err.startswith("1 text in ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "neither --prompt nor --input"),
        (["--prompt", "word1", "--input", "x.txt"], "both --prompt and --input"),
        (["--prompt", " "], "Prompt 1 is empty"),
        (["--prompt", "word1 " * 40], "41 tokens, and the model reads 40"),
        (["--prompt", "a", "--top-p", "2"], "top_p must be"),
        (["--prompt", "a", "--beams", "2", "--temperature", "1"], "beams=2"),
        (["--prompt", "a", "--output", "x.csv"], "end --output with .jsonl"),
        (["--input", "x.pdf"], "'.pdf'"),
        (["--input", "not_there.txt"], "No such file"),
        (["--input", "bad.jsonl"], "bad.jsonl:2"),
        (["--input", "answered.jsonl"], "must end with a message of the user"),
    ],
)
def test_what_cannot_be_done_is_refused(
    kerasllm,
    opened,  # noqa: F811
    tmp_path,
    monkeypatch,
    arguments,
    words,
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.jsonl").write_text('{"prompt": "word1"}\n{"text": "word1"}\n')
    (tmp_path / "answered.jsonl").write_text(
        '{"messages": [{"role": "assistant", "content": "word1"}]}\n'
    )
    result = kerasllm("generate", "tiny", *arguments)
    assert result.status == 2 and words in result.err and not result.out


def test_a_classifier_does_not_write_texts(kerasllm, toy_run):
    for arguments in (["generate", toy_run, "--prompt", "a"], ["chat", toy_run]):
        result = kerasllm(*arguments)
        assert result.status == 2 and "task text_classification" in result.err


def test_a_model_without_a_template_does_not_chat(kerasllm, opened, monkeypatch):  # noqa: F811
    monkeypatch.setattr(opened, "chat_template", None)
    for arguments in (["generate", "tiny", "--chat", "--prompt", "word1"], ["chat", "tiny"]):
        result = kerasllm(*arguments)
        assert result.status == 2 and "no chat template" in result.err
