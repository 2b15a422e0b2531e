"""What a run reads of its files, what it says of them, and what it holds out."""

import json

import numpy as np
import pytest

from kerasllm.data.language_models import load_conversations, load_texts, remarks, unlike_parts
from kerasllm.errors import DataError, RecipeError
from kerasllm.recipe import load
from kerasllm.tasks.task import task_of
from tests.data.chat.test_conversations import CHATML, TOY
from tests.data.test_documents import write_rows


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def read(recipe, path, tmp_path, **more):
    """Reads the data of a recipe as its task does, with a toy tokenizer."""
    settings = [f"data.train={path}", "data.test=null"]
    settings += [f"data.{key}={json.dumps(value)}" for key, value in more.items()]
    recipe = load(recipe, settings)
    from kerasllm.tasks.causal_lm import _are_conversations

    folder = tmp_path / "tokens"
    if _are_conversations(recipe.data):
        return load_conversations(recipe, TOY, CHATML, True, folder, lambda line: None)
    return load_texts(recipe, TOY, None, True, folder, lambda line: None)


QA = [{"question": f"{n} + 2?", "answer": str(n + 2), "id": n} for n in range(30)]


def test_questions_and_answers_are_conversations_to_an_instruction_recipe(tmp_path):
    data = read("gpt_sft_lora", write(tmp_path / "a.jsonl", QA), tmp_path)
    assert data.conversations
    assert data.columns == "user 'question', assistant 'answer'; not read: 'id'"
    assert len(data.parts["validation"]) == 3


@pytest.mark.parametrize(
    "row", [{"title": "a", "body": "b"}, {"content": "a"}, {"message": "a"}, {"text": "a"}]
)
def test_an_instruction_recipe_never_reads_plain_text_by_a_guess(tmp_path, row):
    path = write(tmp_path / "a.jsonl", [row] * 3)
    with pytest.raises(DataError, match="in no known format") as error:
        read("gpt_sft_lora", path, tmp_path)
    # Its advice works: the columns, or plain text.
    assert "--set data.prompt=COLUMN --set data.response=COLUMN" in error.value.fix
    assert "--set data.format=text --set data.text=COLUMN" in error.value.fix
    first, *others = row
    if others:
        data = read("gpt_sft_lora", path, tmp_path, prompt=first, response=others[0])
        assert data.conversations and data.columns == f"user '{first}', assistant '{others[0]}'"
    data = read("gpt_sft_lora", path, tmp_path, format="text", text=first)
    assert not data.conversations and data.columns.startswith(f"'{first}' (as named)")


def test_a_text_file_is_no_conversation_to_an_instruction_recipe(tmp_path):
    (tmp_path / "a.txt").write_text("a\n" * 30)
    with pytest.raises(DataError, match="holds no conversations") as error:
        read("gpt_sft_lora", tmp_path / "a.txt", tmp_path)
    assert "--set data.format=text" in error.value.fix
    assert not read("gpt_sft_lora", tmp_path / "a.txt", tmp_path, format="text").conversations


def test_a_recipe_of_text_says_that_rows_look_like_conversations(tmp_path):
    rows = [{**row, "text": "something"} for row in QA]
    data = read("gpt_continue", write(tmp_path / "a.jsonl", rows), tmp_path)
    assert not data.conversations and data.columns.startswith("'text' (by its name), as plain text")
    [remark] = data.remarks
    assert "look like conversations (user 'question', assistant 'answer')" in remark
    advised = remark.rpartition("--recipe ")[2]
    data = read(advised, tmp_path / "a.jsonl", tmp_path)
    assert data.conversations and data.columns.endswith("not read: 'id', 'text'")
    quiet = read("gpt_continue", tmp_path / "a.jsonl", tmp_path, text="question")
    assert not quiet.conversations and not quiet.remarks
    assert quiet.columns == "'question' (as named), as plain text; not read: 'answer', 'id', 'text'"


def test_a_new_model_does_not_learn_one_column_of_conversations(tmp_path):
    path = write(tmp_path / "a.jsonl", QA)
    recipe = load("gpt_lm", [f"data.train={path}"])
    with pytest.raises(DataError, match="which the rows look like") as error:
        task_of(recipe).load(recipe)
    assert "--set data.text=COLUMN" in error.value.fix and "gpt_sft_lora" in error.value.fix
    assert not read("gpt_lm", path, tmp_path, text="question").conversations
    assert read("gpt_sft_lora", path, tmp_path).conversations


@pytest.mark.parametrize(
    ("settings", "fixed"),
    [
        ({"text": "question", "prompt": "question"}, {"format": "text", "text": "question"}),
        ({"text": "question", "format": "alpaca"}, {"format": "alpaca"}),
        ({"prompt": "question", "format": "text"}, {"prompt": "question"}),
    ],
)
def test_keys_that_contradict_each_other_are_refused(tmp_path, settings, fixed):
    path = write(tmp_path / "a.jsonl", QA)
    with pytest.raises(RecipeError):
        read("gpt_sft_lora", path, tmp_path, **settings)
    assert read("gpt_sft_lora", path, tmp_path, **fixed).columns


def test_empty_system_messages_and_numbers_are_read_and_counted(tmp_path):
    talk = [{"role": "system", "content": ""}, {"role": "user", "content": "q"}]
    talk.append({"role": "assistant", "content": "a"})
    data = read("gpt_sft_lora", write(tmp_path / "e.jsonl", [{"messages": talk}] * 12), tmp_path)
    assert len(data.stores["train"]) == 12
    assert remarks(data.stores["train"], "conversations") == ["12 empty system messages left out"]
    rows = [{"prompt": "q", "completion": "a"}] * 9 + [{"prompt": "q", "completion": 4}]
    data = read("gpt_sft_lora", write(tmp_path / "n.jsonl", rows), tmp_path)
    assert len(data.stores["train"]) == 10
    assert remarks(data.stores["train"], "conversations") == ["1 number read as text"]


def test_the_part_that_is_held_out_of_sorted_rows_is_of_every_kind(tmp_path):
    texts = ["short"] * 100 + ["a much longer text, " * 10] * 100
    path = write_rows(tmp_path / "a.jsonl", texts)
    data = read("gpt_continue", path, tmp_path)
    assert data.held_out == "a sample" and not data.remarks
    lengths = data.stores["validation"].lengths
    assert len(lengths) == 20 and len(np.unique(lengths)) == 2
    (tmp_path / "book.txt").write_text("a line\n" * 200)
    assert read("gpt_continue", tmp_path / "book.txt", tmp_path).held_out == "the end"


def test_parts_that_differ_much_are_named():
    rng = np.random.default_rng(0)
    short, long = rng.integers(5, 15, 200), rng.integers(50, 90, 100)
    assert unlike_parts({"train": short, "validation": rng.integers(5, 15, 50)}, "text") == []
    assert unlike_parts({"train": short, "test": long[:5]}, "text") == []
    [remark] = unlike_parts({"train": short, "validation": short, "test": long}, "text")
    assert remark.startswith("test differs from train: its texts have ")


def test_parts_of_other_kinds_are_named(tmp_path):
    def rows(*languages):
        return [{"prompt": "q", "completion": "a", "language": each} for each in languages]

    train = write(tmp_path / "train.jsonl", rows(*["en", "fr"] * 20))
    same = write(tmp_path / "same.jsonl", rows(*["en", "fr"] * 8))
    other = write(tmp_path / "other.jsonl", rows(*["de"] * 12))
    data = read("gpt_sft_lora", train, tmp_path, validation=same, test=other)
    assert data.remarks == [
        "test differs from train: 'language' is 'de' in 100% of its rows, in 0% of train's"
    ]


@pytest.mark.parametrize("mode", ["once", "text", "keep"])
def test_the_key_for_special_tokens_reaches_both_kinds_of_data(tmp_path, mode):
    rows = [{"text": "a<|im_end|>b"}] * 12
    texts = read("gpt_continue", write(tmp_path / "a.jsonl", rows), tmp_path, special_tokens=mode)
    rows = [{"prompt": "q", "completion": "a<|im_end|>b"}] * 12
    talks = read("gpt_sft_lora", write(tmp_path / "b.jsonl", rows), tmp_path, special_tokens=mode)
    end = TOY.special_tokens["<|im_end|>"]
    counts = [
        store.gather([0], int(store.lengths[0]), 0)[0].tolist().count(end)
        for store in (texts.stores["train"], talks.stores["train"])
    ]
    assert counts == {"once": [2, 2], "text": [1, 2], "keep": [2, 3]}[mode]
