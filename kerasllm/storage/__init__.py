"""Files elsewhere: object stores, web servers and data sets of the Hugging Face hub.

A place is opened by its address (`open_place`); its files are downloaded into the cache, where they
are kept by their address and their version.
"""

from kerasllm.storage.cache import told
from kerasllm.storage.places import Place, fetch_all, fetch_folder, open_place

__all__ = ["Place", "fetch_all", "fetch_folder", "open_place", "told"]
