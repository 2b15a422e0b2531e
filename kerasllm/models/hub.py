"""Models of the Hugging Face hub, as a folder of data files."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from kerasllm.errors import OfflineError, PresetError
from kerasllm.signing import SIGNATURE

FORM = "hf://OWNER/NAME, hf://OWNER/NAME@REVISION or hf://OWNER/NAME/FILE.gguf"
# What KerasHub and kerasllm read; no pickles, no Python, no other frameworks' weights. A GGUF file
# only by its name: there are often many of one model.
ALLOWED = (
    "*.json", "*.jinja", "*.txt", "*.safetensors", "*.model", "*.spm", "*.h5", "*.bpe", "*.md"
)  # fmt: skip
# Other frameworks, and second copies in the layout of who made the model.
IGNORED = (
    "tf_model.h5",
    "onnx/*",
    "openvino/*",
    "coreml/*",
    "*/onnx/*",
    "original/*",
    "consolidated*.safetensors",
)
_HANDLE = re.compile(
    r"hf://(?P<repo>[\w.-]+(?:/[\w.-]+)?)(?:/(?P<file>[\w./-]+\.gguf))?(?:@(?P<revision>[\w./-]+))?"
)


def parse(handle: str) -> tuple[str | None, str | None]:
    """Returns the repository and the revision that a handle names; `None` for what it does not."""
    match = _HANDLE.fullmatch(handle)
    return (match["repo"], match["revision"]) if match else (None, None)


def commit_of(handle: str, cache: Path | None = None) -> str | None:
    """Returns the commit of a repository that was downloaded last; asks nobody for it."""
    import huggingface_hub

    repo, revision = parse(handle)
    try:
        found = huggingface_hub.snapshot_download(
            repo, revision=revision, cache_dir=cache, local_files_only=True
        )
    except Exception:  # noqa: BLE001 - of many classes; it is not there
        return None
    return Path(found).name


def download(
    handle: str,
    cache: Path | None = None,
    files: Sequence[str] | None = None,
    *,
    signed: bool = False,
) -> Path:
    """Downloads a repository of the hub or one file of it, or finds it in the hub's own cache.

    Args:
        handle: `hf://OWNER/NAME[/FILE.gguf][@REVISION]`.
        cache: Folder of the cache. Defaults to `None`: the hub library's own.
        files: The files to take. Defaults to `None`: all that a model needs.
        signed: Whether its signature is taken too, and all that is signed with it, although it is
            never read. Defaults to `False`.

    Returns:
        The folder, or the GGUF file that the handle names.

    Raises:
        PresetError: No such repository or revision, no access, or no network.
    """
    match = _HANDLE.fullmatch(handle)
    if not match:
        raise PresetError(f"'{handle}' is not of the form {FORM}")
    # Not at the top: `kerasllm presets list` does without it.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import huggingface_hub
    from huggingface_hub import errors

    repo, revision, file = match["repo"], match["revision"], match["file"]
    wanted = [file] if file else list(files or ALLOWED)
    if signed:
        wanted = [file, SIGNATURE] if file else None
    try:
        folder = Path(
            huggingface_hub.snapshot_download(
                repo,
                revision=revision,
                cache_dir=cache,
                allow_patterns=wanted,
                ignore_patterns=None if signed else list(IGNORED),
            )
        )
    except errors.GatedRepoError as error:
        what = f"{handle} is gated: its owner decides who may download it"
        fix = "request access on its page, then log in with `hf auth login`"
        raise PresetError(what, fix=fix) from error
    except errors.RepositoryNotFoundError as error:
        what = f"there is no public repository {repo} on the hub"
        fix = "check the name; for a private one, log in with `hf auth login`"
        raise PresetError(what, fix=fix) from error
    except errors.RevisionNotFoundError as error:
        what = f"{repo} has no revision '{revision}'"
        raise PresetError(what, fix="give a branch, a tag or a commit") from error
    except errors.HFValidationError as error:
        raise PresetError(f"'{repo}' is not a repository name of the hub", fix=FORM) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise OfflineError(
            f"the hub cannot be reached or does not respond, and {repo} is not in its cache",
            fix=OfflineError.FIX,
        ) from error
    except (errors.HfHubHTTPError, OSError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        why = f"HTTP status {status}" if status else (getattr(error, "strerror", "") or "no answer")
        raise PresetError(f"{handle} cannot be downloaded: {why}", fix="try again later") from error
    if file and not (folder / file).is_file():
        raise PresetError(f"{repo} has no file {file}", fix="see the repository's page")
    return folder / file if file else folder
