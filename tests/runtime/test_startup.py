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
