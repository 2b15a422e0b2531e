"""What a training notes in the audit trail of its run."""

from __future__ import annotations

from kerasllm import audit
from kerasllm.models import digests, presets
from kerasllm.run import Run
from kerasllm.training.checkpoints import Checkpoint
from kerasllm.workflows.job import Job


def audited(run: Run, job: Job, command: str, checkpoint: Checkpoint | None) -> audit.Recorded:
    """Returns the entry of a training, which notes its beginning and its end.

    Args:
        run: The run, whose recipe is written.
        job: The training.
        command: The command that was typed.
        checkpoint: What it resumes from; `None`: it begins.
    """
    preset = job.recipe.model.preset
    facts = {} if checkpoint is None else {"from_step": checkpoint.step}
    return audit.Recorded(
        run.path,
        "train" if checkpoint is None else "resume",
        command=command,
        recipe=digests.sha256_of(run.recipe),
        data=dict(job.data.fingerprints),
        preset=preset and {"name": preset, "fingerprint": presets.fingerprint(preset)},
        parent=audit.parent_of(preset),
        **facts,
    )
