"""TensorFlow can be imported without a word and without what is not used."""

import os
import subprocess
import sys


def test_tensorflow_is_imported_without_a_word():
    code = (
        "import sys, warnings\n"
        "from kerasllm.runtime.startup import import_tensorflow\n"
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


def stderr_of(code, **environment):
    kept = {name: os.environ[name] for name in os.environ if not name.startswith(("TF_", "XLA_"))}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**kept, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_whatever_imports_tensorflow_after_kerasllm_does_so_without_a_word():
    code = (
        "import os, sys\n"
        "import kerasllm\n"
        "import keras\n"
        "import tensorflow as tf\n"
        "assert tf.__spec__.loader.path == tf.__file__ and tf.constant(1) + 1 == 2\n"
        "assert 'tf_xla_persistent_cache' in os.environ['TF_XLA_FLAGS']\n"
        "print('heard', file=sys.stderr)\n"
    )
    assert stderr_of(code) == "heard\n"


def test_tensorflow_says_what_the_user_wants_to_hear():
    code = "import kerasllm\nimport tensorflow\n"
    assert "oneDNN" in stderr_of(code, TF_CPP_MIN_LOG_LEVEL="0")
    assert "oneDNN" in stderr_of(code, KERASLLM_QUIET_IMPORT="0")


def test_packages_that_are_not_used_are_not_imported_but_can_be():
    code = (
        "import sys, gc\n"
        "from kerasllm.runtime.startup import import_tensorflow\n"
        "import_tensorflow(lean=True)\n"
        "assert gc.isenabled()\n"
        "assert 'matplotlib' not in sys.modules and 'scipy' not in sys.modules\n"
        "import matplotlib.pyplot\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_package_that_is_imported_before_stays():
    code = (
        "import sys, matplotlib.pyplot\n"
        "from kerasllm.runtime.startup import import_tensorflow\n"
        "import_tensorflow(lean=True)\n"
        "assert sys.modules['matplotlib.pyplot'] is matplotlib.pyplot\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
