"""Which lengths batches are padded to, and whether XLA compiles for them: by cost and benefit.

More lengths pad less, and each is compiled once. What a length costs, what it saves, and which ones
the cache has already decide how many there are (`kerasllm.training.compile_costs`).

Which rows share a batch, and whether XLA is used, follow from the job alone. What the cache has
changes only how far batches are padded, and so nothing but the rounding of the numbers: a draw of a
fused dropout does not depend on it. A resumed run keeps its lengths.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import keras
import numpy as np

from kerasllm.data.batch_plan import EpochPlans
from kerasllm.data.padded_lengths import cheapest_lengths, shared_lengths
from kerasllm.distribution.layouts import PACKED
from kerasllm.runtime.switches import is_off
from kerasllm.runtime.threads import available_cores
from kerasllm.training.compile_costs import CompileCosts, fused_on_cpu, whole_step
from kerasllm.training.precision import only_cpus

# The weights in each element of a matrix: a packed one has two in a byte.
_KERNELS = {"kernel": 1, "quantized_kernel": 1, PACKED: 2}


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Attributes:
        lengths: Ascending, the last one holds every row.
        pays: Whether XLA saves more time than its compilations take, with nothing in the cache.
    """

    lengths: list[int]
    pays: bool


def choose_lengths(
    plans: EpochPlans,
    steps: int,
    count: int,
    costs: CompileCosts,
    is_there: Callable[[int], bool] = lambda length: False,
) -> Choice:
    """Chooses the lengths of a training.

    Args:
        plans: The plans, canonical.
        steps: Steps of the training.
        count: The maximum number of lengths.
        costs: What they cost.
        is_there: Tells whether the cache has a length. Defaults to one that has none.
    """
    plan = plans(0)
    longest = plans.longest_of_batches()
    candidates = shared_lengths(int(plans.boundaries[-1]))
    candidates[-1] = plans.boundaries[-1]
    batches = np.bincount(np.searchsorted(candidates, longest), minlength=len(candidates))
    rows = batches * plan.batch_size * steps / plans.steps

    def chosen(of_length: Callable[[int], float]) -> np.ndarray:
        in_tokens = np.array([of_length(int(each)) for each in candidates]) / costs.token
        return cheapest_lengths(candidates, rows, count, in_tokens)

    cold = chosen(lambda length: costs.compiled)
    tokens = float((rows * cold[np.searchsorted(cold, candidates)]).sum())
    known = chosen(lambda length: costs.read if is_there(length) else costs.compiled)
    return Choice(known.tolist(), tokens * costs.saved > len(cold) * costs.compiled)


def pays(plans: EpochPlans, steps: int, costs: CompileCosts) -> bool:
    """Tells whether XLA saves more time than compiling all lengths of the plans takes."""
    tokens = plans(0).processed_tokens * steps / plans.steps
    return tokens * costs.saved > len(plans.boundaries) * costs.compiled


def matrix_parameters(model: keras.Model) -> int:
    """Returns the number of weights that each token is multiplied by."""
    return sum(int(np.prod(each.shape)) * _KERNELS.get(each.name, 0) for each in model.weights)


def settle(
    model: keras.Model,
    plans: EpochPlans,
    steps: int,
    *,
    rows: int,
    buckets: int,
    xla: bool,
    fused: bool | None = None,
    auto: bool = True,
    lengths: Sequence[int] = (),
) -> tuple[bool, bool]:
    """Chooses whether XLA compiles, and pads the plans to the lengths that are then cheapest.

    Args:
        model: A `FineTunedModel`; it need not be compiled.
        plans: The plans of its training, with shared lengths where they may be; where nothing is
            compiled they get the lengths that pad least.
        steps: Steps of the training.
        rows: Rows that are computed at a time: of a slice.
        buckets: The maximum number of lengths.
        xla: Whether XLA may compile whole steps.
        fused: Whether XLA fuses element-wise work on a CPU. Defaults to `None`: if it pays.
        auto: Whether `xla` is a choice, to be kept if it pays. Defaults to `True`.
        lengths: Lengths to keep, as those of a run that is resumed. Defaults to `()`: the
            cheapest.

    Returns:
        Whether XLA compiles whole steps, and whether it fuses element-wise work.
    """
    fusing = None if xla or fused is False or not only_cpus() else model.fuse()
    if not xla and fusing is None:
        plans.share_lengths(None)
        return False, bool(fused)
    parameters = matrix_parameters(model.task)
    if xla:
        costs = whole_step(parameters, model.distribute_strategy.num_replicas_in_sync)
    else:
        costs = fused_on_cpu(parameters, model.task.compute_dtype, available_cores())
    if is_off("KERASLLM_COMPILE_COSTS"):
        costs = replace(costs, compiled=0.0, read=0.0)
    if plans.shared:
        shapes = getattr(fusing, "is_compiled", lambda rows, length: False)
        choice = choose_lengths(plans, steps, buckets, costs, lambda length: shapes(rows, length))
        worth = choice.pays
    else:
        worth = pays(plans, steps, costs)
    if xla and auto:
        xla = worth
    if fused is None:
        fused = worth and not xla
    if not (xla or fused):
        plans.share_lengths(None)
    elif plans.shared:
        plans.pad_to(lengths or choice.lengths)
    return xla, fused
