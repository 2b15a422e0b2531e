"""Whatever was traced before, a function has the name that it had in the process before."""

import os

from tests import forked

CODE = """
from kerasllm.runtime.startup import import_tensorflow
import_tensorflow()
import tensorflow as tf
from kerasllm.models.accelerated.fused_operations import fused
for _ in range({before}):
    tf.function(lambda x: x + 1)(tf.ones([2]))

def double(x):
    return x * 2 + tf.tanh(x)

both = fused(double), fused(double)
x = tf.ones([3, 5])
with tf.GradientTape() as tape:
    tape.watch(x)
    found = sum(tf.reduce_sum(each(x)) for each in both)
print(float(found), tape.gradient(found, x).numpy().round(4).tolist())
"""


def test_the_programs_of_a_process_that_did_more_before_are_the_same(tmp_path):
    environment = {**os.environ, "KERASLLM_CACHE": str(tmp_path)}
    for name in ("TF_XLA_FLAGS", "XLA_FLAGS"):
        environment.pop(name, None)
    found = []
    for before in (0, 3):
        done = forked.run("-c", CODE.format(before=before), env=environment)
        assert done.returncode == 0, done.stderr
        found.append((done.stdout, {path.name for path in tmp_path.glob("xla/*/*.pb")}))
    assert found[0] == found[1]
    # Two functions, and their gradients.
    assert len(found[0][1]) == 4
