"""KerasHub's encoder layers computed again, faster, with the same weights and the same numbers."""
