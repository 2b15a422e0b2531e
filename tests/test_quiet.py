"""TensorFlow can be imported without a word, and what is said afterwards is heard."""

import os
import subprocess
import sys


def test_tensorflow_is_imported_without_a_word():
    code = (
        "import sys, warnings\n"
        "from kerasllm.quiet import import_tensorflow\n"
        "import_tensorflow()\n"
        "assert 'tensorflow' in sys.modules and 'keras_hub' in sys.modules\n"
        "warnings.warn('heard')\n"
    )
    environment = {name: os.environ[name] for name in os.environ if not name.startswith("TF_")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    assert done.stderr.splitlines() == ["<string>:5: UserWarning: heard"]
