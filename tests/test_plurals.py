"""Numbers with their nouns."""

from kerasllm.plurals import counted


def test_one_is_singular_and_all_others_are_plural():
    assert [counted(n, "row") for n in (0, 1, 2, 2048)] == ["0 rows", "1 row", "2 rows", "2,048 rows"]
    assert counted(1, "shape was", "shapes were") == "1 shape was"
    assert counted(3, "shape was", "shapes were") == "3 shapes were"
