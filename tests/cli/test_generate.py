"""`kerasllm generate`: prompts from anywhere, texts to anywhere, streams on a terminal."""

import csv
import json
import signal
import sys

import pytest
from pyarrow import parquet

from kerasllm.workflows import generate as workflow
from kerasllm.workflows import predict_file
from tests.generation.conftest import opened, writer  # noqa: F401


def test_each_prompt_gets_an_object_in_order(kerasllm, opened, tmp_path):
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


def test_a_terminal_shows_what_a_file_would_hold(kerasllm, opened, tmp_path, monkeypatch):
    arguments = ["generate", "tiny", "--prompt", "word1", "--max-new-tokens", 6]
    plain = kerasllm(*arguments)
    kerasllm(*arguments, "--output", tmp_path / "texts.jsonl")
    row = json.loads((tmp_path / "texts.jsonl").read_text())
    assert plain.out == row["text"] + "\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert kerasllm(*arguments).out.strip() == row["text"].strip()


def test_conversations_and_chat_use_the_template(kerasllm, opened, tmp_path):
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


def test_messages_and_marks_are_read_as_in_training(kerasllm, opened, tmp_path):
    parts = [{"type": "text", "text": "word1"}]
    rows = [
        {"messages": [{"role": "user", "content": "word1"}]},
        {"Messages": [{"role": "developer", "content": ""}, {"role": "user", "content": parts}]},
        {"messages": json.dumps([{"role": "user", "content": "\ufeffword1"}])},
    ]
    (tmp_path / "chats.jsonl").write_text(
        "\ufeff" + "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
    )
    told = ["--max-new-tokens", 6, "--json"]
    result = kerasllm("generate", "tiny", "--input", tmp_path / "chats.jsonl", *told)
    assert result.status == 0, result.err
    assert len({json.loads(line)["text"] for line in result.out.splitlines()}) == 1
    alone = kerasllm("generate", "tiny", "--prompt", "\ufeffword1", *told)
    plain = kerasllm("generate", "tiny", "--prompt", "word1", *told)
    assert json.loads(alone.out)["text"] == json.loads(plain.out)["text"]


def test_a_model_of_conversations_answers_and_says_so(kerasllm, opened, monkeypatch):
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
def test_an_empty_text_is_explained(kerasllm, opened, monkeypatch, terminal, option, advice):
    told = ["generate", "tiny", "--prompt", "word1", option, "--stop", "w", "--stop", "<"]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    result = kerasllm(*told)
    assert result.status == 0 and result.out == ""
    assert result.err.startswith("The text is empty: ") and advice in result.err
    assert len(result.err.splitlines()) == 1
    row = json.loads(kerasllm(*told, "--json").out)
    assert row["text"] == "" and row["chat"] is (option == "--chat")


def test_of_several_texts_the_empty_ones_are_counted(kerasllm, opened, tmp_path):
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
        (["--prompt", "a", "--output", "x.pdf"], "end --output with"),
        (["--input", "x.pdf"], "'.pdf'"),
        (["--input", "not_there.txt"], "The file does not exist"),
        (["--input", "bad.jsonl", "--on-bad-row", "error"], "bad.jsonl:2"),
        (["--input", "bad.jsonl", "--text", "texts"], "no column 'texts'"),
        (["--input", "long.txt", "--on-bad-row", "error"], "41 tokens, and the model reads 40"),
        (["--input", "answered.jsonl"], "must end with a user message"),
    ],
)
def test_what_cannot_be_done_is_refused(
    kerasllm,
    opened,
    tmp_path,
    monkeypatch,
    arguments,
    words,
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.jsonl").write_text('{"prompt": "word1"}\n{"text": "word1"}\n')
    (tmp_path / "x.pdf").write_text("word1")
    (tmp_path / "long.txt").write_text("word1 " * 40 + "\nword1\n")
    (tmp_path / "answered.jsonl").write_text(
        '{"messages": [{"role": "assistant", "content": "word1"}]}\n'
    )
    result = kerasllm("generate", "tiny", *arguments)
    assert result.status == 2 and words in result.err and not result.out


def test_a_classifier_does_not_write_texts(kerasllm, toy_run):
    for arguments in (["generate", toy_run, "--prompt", "a"], ["chat", toy_run]):
        result = kerasllm(*arguments)
        assert result.status == 2 and "task text_classification" in result.err


def test_a_model_without_a_template_does_not_chat(kerasllm, opened, monkeypatch):
    monkeypatch.setattr(opened, "chat_template", None)
    for arguments in (["generate", "tiny", "--chat", "--prompt", "word1"], ["chat", "tiny"]):
        result = kerasllm(*arguments)
        assert result.status == 2 and "no chat template" in result.err


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_each_row_of_a_file_has_a_row_with_its_columns(kerasllm, opened, tmp_path, suffix):
    rows = ["a,word1 word2", "b, ", f"c,{'word1 ' * 40}", "d,word3"]
    (tmp_path / "rows.csv").write_text("\n".join(["id,prompt", *rows]) + "\n")
    output = tmp_path / f"out.{suffix}"
    told = ["generate", "tiny", "--input", tmp_path / "rows.csv", "--max-new-tokens", 4]
    result = kerasllm(*told, "--output", output)
    assert result.status == 0 and "2 texts in" in result.err and "2 bad rows" in result.err
    if suffix == "parquet":
        found = parquet.read_table(output).to_pylist()
    else:
        with open(output, newline="") as file:
            found = list(map(json.loads, file) if suffix == "jsonl" else csv.DictReader(file))
    assert [row["id"] for row in found] == ["a", "b", "c", "d"]
    assert [bool(row["text"]) for row in found] == [True, False, False, True]
    assert "the prompt is empty" in found[1]["error"] and "41 tokens" in found[2]["error"]
    assert list(found[0])[:3] == ["id", "prompt", "text"]
    skipped = kerasllm(*told, "--id", "id", "--json", "--on-bad-row", "skip")
    assert [json.loads(line)["id"] for line in skipped.out.splitlines()] == ["a", "d"]


def test_texts_that_were_interrupted_are_resumed_as_they_began(
    kerasllm,
    opened,
    tmp_path,
    monkeypatch,
):
    monkeypatch.setattr(predict_file, "SECONDS_BETWEEN_COMMITS", 0)
    (tmp_path / "prompts.txt").write_text("".join(f"word{i % 9} word1\n" for i in range(20)))
    told = ["generate", "tiny", "--input", tmp_path / "prompts.txt", "--max-new-tokens", 4]
    told += ["--batch-size", 1, "--temperature", 1.0, "--output", tmp_path / "out.jsonl"]
    with monkeypatch.context() as patched:
        patched.setattr(workflow, "generate", _terminated_after(18, workflow.generate))
        assert kerasllm(*told).status == 143
    resumed = kerasllm(*told, "--resume")
    assert resumed.status == 0 and "resuming after 16 of 20 rows" in resumed.err
    text = (tmp_path / "out.jsonl").read_text()
    (seed,) = {json.loads(line)["seed"] for line in text.splitlines()}
    kerasllm(*told, "--seed", seed)
    assert (tmp_path / "out.jsonl").read_text() == text


def _terminated_after(count, generate):
    def generate_and_end(*arguments, **options):
        for number, made in enumerate(generate(*arguments, **options)):
            if number == count:
                signal.raise_signal(signal.SIGTERM)
            yield made

    return generate_and_end
