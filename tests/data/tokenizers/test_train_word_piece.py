"""WordPiece vocabularies that are learned from text."""

import inspect
import subprocess
import sys

from kerasllm.data.tokenizers.train_word_piece import SPECIAL_TOKENS, train_word_piece

_TEXT = "The whale and the whaler; whaling the Whales, a wail. " * 4


def test_words_and_their_parts_are_learned():
    found = train_word_piece([_TEXT], 64)
    assert tuple(found[:5]) == SPECIAL_TOKENS and len(found) == len(set(found)) <= 64
    assert {"the", "whal", "w", "##w", ";"} <= set(found) and "The" not in found
    assert "The" in train_word_piece([_TEXT], 64, lowercase=False)


def test_all_characters_are_there_even_where_there_is_no_room():
    found = train_word_piece([_TEXT], 8)
    assert {"w", "##w"} <= set(found)


def test_the_same_text_gives_the_same_vocabulary_in_every_process():
    # The file alone: its package imports TensorFlow.
    file = inspect.getfile(train_word_piece)
    code = f"import runpy; print(runpy.run_path({file!r})['train_word_piece']([{_TEXT!r}], 64))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(train_word_piece([_TEXT], 64))
