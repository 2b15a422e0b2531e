"""kerasllm: fine-tune language models with Keras and TensorFlow.

```python
import kerasllm

run = kerasllm.finetune("bert_cls", train="reviews.csv", output="my_run")
run.predict(["A film to remember."])

model = kerasllm.TextClassifier.from_preset("minilm_l6_en_uncased", labels=["bad", "good"])
model.compile()
model.fit(texts, labels)
```
"""

import os
from typing import TYPE_CHECKING

from kerasllm._lazy import lazy_names
from kerasllm.runtime import quiet_import

# KerasHub runs on several backends; tf.distribute and tf.data, on which kerasllm is built, need
# this one. Keras reads the variable when it is first imported.
os.environ["KERAS_BACKEND"] = os.environ.get("KERAS_BACKEND") or "tensorflow"
quiet_import.install()

__version__ = "0.1.0"

if TYPE_CHECKING:
    from kerasllm import data as data
    from kerasllm import distribution as distribution
    from kerasllm import errors as errors
    from kerasllm import evaluation as evaluation
    from kerasllm import generation as generation
    from kerasllm import models as models
    from kerasllm import recipe as recipe
    from kerasllm import training as training
    from kerasllm import workflows as workflows
    from kerasllm.data.dataset import Dataset as Dataset
    from kerasllm.errors import KerasllmError as KerasllmError
    from kerasllm.jobs import finetune as finetune
    from kerasllm.jobs import load as load
    from kerasllm.models.answer_model import AnswerModel as AnswerModel
    from kerasllm.models.causal_lm import CausalLM as CausalLM
    from kerasllm.models.decoder import gpt_causal_lm as gpt_causal_lm
    from kerasllm.models.masked_lm import MaskedLM as MaskedLM
    from kerasllm.models.new_classifier import bert_classifier as bert_classifier
    from kerasllm.models.seq2seq_lm import Seq2SeqLM as Seq2SeqLM
    from kerasllm.models.text_classifier import TextClassifier as TextClassifier
    from kerasllm.models.token_classifier import TokenClassifier as TokenClassifier
    from kerasllm.trained_model import TrainedModel as TrainedModel
    from kerasllm.training.fit import FineTunedModel as FineTunedModel
else:
    __getattr__, __dir__, __all__ = lazy_names(
        __name__,
        {
            "AnswerModel": "models.answer_model",
            "CausalLM": "models.causal_lm",
            "Dataset": "data.dataset",
            "FineTunedModel": "training.fit",
            "KerasllmError": "errors",
            "MaskedLM": "models.masked_lm",
            "Seq2SeqLM": "models.seq2seq_lm",
            "TextClassifier": "models.text_classifier",
            "TokenClassifier": "models.token_classifier",
            "TrainedModel": "trained_model",
            "bert_classifier": "models.new_classifier",
            "finetune": "jobs",
            "gpt_causal_lm": "models.decoder",
            "load": "jobs",
            **dict.fromkeys(
                (
                    *("data", "distribution", "errors", "evaluation", "generation", "models"),
                    *("recipe", "training", "workflows"),
                ),
                "",
            ),
        },
    )
