"""Texts: stop texts, also across tokens and in streams, chats, and models that change."""

import pytest

from kerasllm.errors import DataError
from kerasllm.generation import GenerationSettings
from kerasllm.generation.text import TextGenerator, generate_for_model, generate_text
from tests.generation.models import randomize

PROMPTS = ["word1 word2", "word3", "word4 word5 word6"]
SETTINGS = GenerationSettings(max_new_tokens=16)


@pytest.fixture(scope="module")
def generator(writer):
    return TextGenerator(writer, SETTINGS)


def _ids(generator):
    return [generator.encode(prompt) for prompt in PROMPTS]


def test_a_stream_joins_to_the_text(generator):
    generator.settings = SETTINGS
    made = generator.generate(_ids(generator))
    assert ["".join(generator.stream(ids)) for ids in _ids(generator)] == [m.text for m in made]
    assert all(each.text.startswith("word") for each in made)


def test_a_stop_text_may_lie_across_tokens_and_ends_the_text_before_it(generator):
    generator.settings = SETTINGS
    free = generator.generate(_ids(generator))[0].text
    words = free.split()
    # The end of one word and the beginning of the next.
    stop = f"{words[4][-1]} {words[5]}"
    generator.settings = GenerationSettings(max_new_tokens=16, stop=("not there", stop))
    made = generator.generate(_ids(generator))[0]
    assert made.text == free[: free.find(stop)] and made.finish_reason == "stop"
    assert len(made.tokens) == len(free[: free.find(stop) + len(stop)].split())
    assert "".join(generator.stream(_ids(generator)[0])) == made.text


def test_a_chat_ends_where_the_template_says(generator):
    generator.settings = SETTINGS
    ids = generator.encode_chat([{"role": "user", "content": "word1"}])
    assert ids == [2, 7, 3]
    assert generator.settings_of(SETTINGS, chat=True).stop_token_ids == (1,)


def test_samples_of_a_model_that_trains_follow_its_weights(writer):
    before = generate_text(writer, PROMPTS, SETTINGS)
    assert generate_text(writer, PROMPTS, SETTINGS) == before
    kept = [weight.numpy() for weight in writer.task.backbone.trainable_variables]
    randomize(writer.task.backbone, seed=9)
    try:
        assert generate_text(writer, PROMPTS, SETTINGS) != before
    finally:
        for weight, value in zip(writer.task.backbone.trainable_variables, kept):
            weight.assign(value)
    assert generate_text(writer, PROMPTS, SETTINGS) == before


def test_marks_of_files_are_no_part_of_a_prompt(generator):
    assert generator.encode("\ufeffword1") == generator.encode("word1")


def test_conversations_are_read_as_in_training(writer):
    user = {"role": "user", "content": "word1"}
    told = {"max_new_tokens": 4}
    parts = {"role": "user", "content": [{"type": "text", "text": "word1"}]}
    plain = generate_for_model(writer, [user], **told)
    assert generate_for_model(writer, [[parts], [user]], **told) == [plain] * 2
    system = [{"role": "developer", "content": " "}, user]
    assert generate_for_model(writer, system, **told) == plain
    with pytest.raises(DataError, match="Conversation 1 cannot be answered: the conversation must"):
        generate_for_model(writer, [[user], [user, {"role": "assistant", "content": "a"}]], **told)
    with pytest.raises(DataError, match="message 2 is from a tool"):
        generate_for_model(writer, [user, {"role": "tool", "content": "4"}], **told)
