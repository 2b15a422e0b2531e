"""What every process of `forked` has imported."""

import sys

from kerasllm.runtime.startup import import_tensorflow

# Where modules are found, without the folder that Python was started in.
PATH = [path for path in sys.path if path]

import_tensorflow(lean=True)

import kerasllm.cli.main  # noqa: F401
