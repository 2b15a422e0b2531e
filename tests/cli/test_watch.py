"""`kerasllm watch`: what is refused before it answers."""

import subprocess
import sys


def test_a_folder_that_is_not_there_and_a_prefix_that_is_none(kerasllm, tmp_path):
    found = kerasllm("watch", tmp_path / "nothing")
    assert found.status == 2 and "There is no folder" in found.err and "runs/" in found.err
    for prefix in ("watch", "/a b", "/a?b", "//x", "/../x y"):
        found = kerasllm("watch", tmp_path, "--prefix", prefix)
        assert found.status == 2 and "--prefix" in found.err


def test_the_page_needs_no_tensorflow():
    code = "import sys, kerasllm.watch.app; print('tensorflow' in sys.modules)"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert made.stdout == "False\n"
