"""What kerasllm reads of Keras that has no public place is still where it was."""

import json

import keras
import numpy as np

from kerasllm.training.loops import restored_epoch


def test_backup_and_restore_tells_the_model_where_to_continue(tmp_path):
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    model.compile("sgd", "mse")
    assert not restored_epoch(model)
    backup = keras.callbacks.BackupAndRestore(str(tmp_path / "backup"), delete_checkpoint=False)
    model.fit(np.ones((4, 2)), np.ones(4), epochs=3, verbose=0, callbacks=[backup])
    state = json.loads((tmp_path / "backup" / "training_metadata.json").read_text())
    assert state["epoch"] == 3
    again = keras.models.clone_model(model)
    again.compile("sgd", "mse")
    backup.set_model(again)
    backup.on_train_begin()
    assert restored_epoch(again) == 3
