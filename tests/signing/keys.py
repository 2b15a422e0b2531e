"""Keys for tests, made as a user makes them."""

import subprocess
from pathlib import Path


def make_key(folder: Path, name: str = "my", curve: str = "P-256") -> tuple[Path, Path]:
    """Returns a new private key and its public half."""
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    openssl(*f"genpkey -algorithm EC -pkeyopt ec_paramgen_curve:{curve} -out".split(), private)
    openssl("pkey", "-in", private, "-pubout", "-out", public)
    return private, public


def openssl(*arguments) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
