"""Azure's storage: which account, container and key an address and the environment name."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import unquote

from kerasllm.addresses import Address

_CLOUD = ".core.windows.net"


def open_azure(address: Address) -> tuple[Any, str]:
    """Opens the file system of an address, and returns it with the path in it.

    `abfs://CONTAINER@ACCOUNT.dfs.core.windows.net/PATH`, `abfs://ACCOUNT@CONTAINER/PATH`,
    `abfs://CONTAINER/PATH` of the account that AZURE_STORAGE_ACCOUNT names, and, for a server that
    speaks as Azure does, `abfs://ACCOUNT@HOST:PORT/CONTAINER/PATH`.

    The key is the password of the address, else AZURE_STORAGE_KEY, or AZURE_STORAGE_SAS_TOKEN;
    without them Azure's own means are used: its variables, `az login`, the machine's identity.

    Args:
        address: The address, with its credentials.

    Raises:
        ValueError: No account is named.
    """
    from pyarrow import fs

    user, _, key = (unquote(part) for part in address.user.partition(":"))
    server = {}
    if address.host.endswith(_CLOUD):
        account = address.host.partition(".")[0]
        path = f"{user}{address.path}" if user else address.path
    elif "." in address.host or ":" in address.host:
        account, path = user, address.path
        scheme = "http" if address.option.get("enable_tls", "").lower() == "false" else "https"
        for kind in ("blob", "dfs"):
            server[f"{kind}_storage_authority"] = address.host
            server[f"{kind}_storage_scheme"] = scheme
    else:
        account, path = user, f"{address.host}{address.path}"
    account = account or os.environ.get("AZURE_STORAGE_ACCOUNT", "")
    if not account:
        raise ValueError("no storage account is named; AZURE_STORAGE_ACCOUNT can name it")
    key = key or os.environ.get("AZURE_STORAGE_KEY", "")
    token = "" if key else os.environ.get("AZURE_STORAGE_SAS_TOKEN", "")
    filesystem = fs.AzureFileSystem(
        account_name=account, account_key=key or None, sas_token=token or None, **server
    )
    return filesystem, unquote(path).strip("/")
