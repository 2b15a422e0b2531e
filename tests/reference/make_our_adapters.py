"""Writes adapters of kerasllm on the bases of `make_adapters.py`, for `peft` to open.

python tests/reference/make_our_adapters.py
python tests/reference/make_adapters.py  # with peft: adds what it computes
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kerasllm.models.adapters import Adapter, add_adapter
from kerasllm.models.decoders import load_backbone

HERE = Path(__file__).parent / "adapters"
ADAPTERS = {
    "llama": {
        "lora": {"rank": 4, "alpha": 6},
        "dora": {"rank": 3, "targets": ["attention", "down_proj"], "dora": True, "dropout": 0.1},
        "whole": {"rank": 2, "targets": ["mlp"], "train": ["norm", "embeddings"]},
    },
    "gpt2": {
        "all_linear": {"rank": 2, "targets": ["all-linear"], "rank_stabilized": True},
        "some_heads": {"rank": 3, "targets": ["query", "value", "c_fc"], "dora": True},
        "whole": {"rank": 2, "targets": ["c_attn"], "train": ["wte", "norm"]},
    },
}


def build(family: str, name: str) -> Adapter:
    """Returns an adapter that has learned something, the same each time."""
    adapter = add_adapter(load_backbone(HERE / family / "base"), **ADAPTERS[family][name])
    rng = np.random.default_rng(0)
    for variable in adapter.backbone.trainable_variables:
        variable.assign(variable + rng.normal(0, 0.1, variable.shape))
    return adapter


def main() -> None:
    for family, adapters in ADAPTERS.items():
        for name in adapters:
            build(family, name).save(HERE / family / f"ours_{name}", base_name=f"tiny {family}")


if __name__ == "__main__":
    main()
