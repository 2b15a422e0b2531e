"""Everything that changes the process: threads, memory, XLA's cache and flags, the import."""
