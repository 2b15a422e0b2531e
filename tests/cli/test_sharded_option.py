"""`--strategy` of the commands that use a trained model: one device, or in shards."""

import pytest

COMMANDS = {
    "evaluate": ["my_run"],
    "predict": ["my_run", "A film to remember."],
    "generate": ["my_run", "--prompt", "One day"],
}


@pytest.mark.parametrize("verb", COMMANDS)
@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        ("mirrored", "on one device, or in shards. Received: mirrored"),
        ("shard", "did you mean sharded?"),
        ("sharded:two", "two whole numbers"),
        ("sharded:2x", "two whole numbers"),
        ("sharded:0x4", "two whole numbers"),
    ],
)
def test_another_strategy_is_refused_before_the_run_is_read(kerasllm, verb, strategy, words):
    result = kerasllm(verb, *COMMANDS[verb], "--strategy", strategy)
    assert result.status == 2 and words in result.err
    assert "my_run" not in result.err
