"""Data sets of the Hugging Face hub: their files, of one commit."""

from __future__ import annotations

import os
import re
from pathlib import Path

from kerasllm.addresses import Address
from kerasllm.environment import cache_dir
from kerasllm.errors import StorageError
from kerasllm.storage.cache import tell
from kerasllm.storage.places import Place

FORM = "hf://datasets/OWNER/NAME[@REVISION][/PATH]"

_HANDLE = re.compile(
    r"/(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>refs/(?:convert|pr)/[\w.-]+|[\w.~-]+))?"
    r"(?:/(?P<path>.*))?"
)
_DATA = re.compile(
    r"\.(parquet|csv|tsv|jsonl|ndjson|json|txt)(\.(gz|zst|bz2|xz))?$|\.zip$", re.IGNORECASE
)
_ABOUT = re.compile(r"(^|/)(README|LICENSE|dataset_infos?|\.)[^/]*$", re.IGNORECASE)
# Where the hub keeps every data set in Parquet, regardless of its original format.
_PARQUET = "refs/convert/parquet"


class HubDataset(Place):
    """A data set of the hub, a folder or a file of it. Its files are those of the newest commit.

    A data set without a file that is read here is taken in Parquet, as the hub converts it.
    HF_ENDPOINT names another hub, HF_TOKEN or `hf auth login` give access to private data sets.

    Args:
        address: `hf://datasets/OWNER/NAME`, maybe with `@REVISION`, a folder or a file.

    Raises:
        StorageError: It has another form, or the hub does not give it.
    """

    def __init__(self, address: Address):
        self.address = address.without_credentials()
        match = _HANDLE.fullmatch(address.path.rstrip("/")) if address.host == "datasets" else None
        if not match:
            raise StorageError(
                f"'{self.address}' is not of the form {FORM}",
                where=str(self.address),
                fix="write datasets/ before the owner's name; a model is named by model.preset",
            )
        self._repo, self._path = match["repo"], match["path"] or ""
        revision = match["revision"]
        self._revision = _PARQUET if revision == "~parquet" else revision
        self._commit, self._all = "", list[str]()
        self._list()

    def is_file(self) -> bool:
        return self._path in self._all

    def files(self) -> list[str]:
        start = f"{self._path}/" if self._path else ""
        return [name.removeprefix(start) for name in self._all if name.startswith(start)]

    def fetch(self, name: str = "") -> Path:
        import huggingface_hub

        path = "/".join(part for part in (self._path, name) if part)
        tell(f"downloading {self.address_of(name)}")
        chosen = bool(os.environ.get("KERASLLM_CACHE"))
        try:
            return Path(
                huggingface_hub.hf_hub_download(
                    self._repo,
                    path,
                    repo_type="dataset",
                    revision=self._commit,
                    endpoint=_endpoint(),
                    cache_dir=cache_dir() / "huggingface" if chosen else None,
                )
            )
        except Exception as error:
            raise self._refusal(error) from error

    def _list(self) -> None:
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        import huggingface_hub

        tell(f"looking up {self.address}")
        hub = huggingface_hub.HfApi(endpoint=_endpoint())
        try:
            found = hub.dataset_info(self._repo, revision=self._revision)
            files = [each.rfilename for each in found.siblings or ()]
            readable = [each for each in files if _DATA.search(each) and not _ABOUT.search(each)]
            if not readable and self._revision is None:
                found = hub.dataset_info(self._repo, revision=_PARQUET)
                files = [each.rfilename for each in found.siblings or ()]
        except Exception as error:
            raise self._refusal(error) from error
        self._commit, self._all = found.sha or "", sorted(files)

    def _refusal(self, error: Exception) -> StorageError:
        from huggingface_hub import errors

        where = str(self.address)
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(error, errors.GatedRepoError):
            what = "The data set is gated: its owner decides who may download it"
            fix = "request access on its page, then log in with `hf auth login`"
        elif isinstance(error, errors.RevisionNotFoundError):
            what, fix = "The data set has no such revision", "give a branch, a tag or a commit"
        elif isinstance(error, errors.RepositoryNotFoundError) or (status == 404 and not self._all):
            what = "There is no public data set of this name on the hub"
            fix = "check the name; for a private one, log in with `hf auth login`"
        elif isinstance(error, errors.EntryNotFoundError) and status == 404:
            what, fix = "The data set has no such file", "see its page"
        elif status:
            what, fix = f"The hub refused the request: HTTP status {status}", "try again later"
        else:
            what = "The hub cannot be reached or does not respond"
            fix = "check the network, try again later, or give a local file"
        return StorageError(what, where=where, fix=fix)


def _endpoint() -> str | None:
    """The hub that is meant; its library reads the variable once, when it is imported."""
    return os.environ.get("HF_ENDPOINT") or None
