"""Tasks: one file each; `task` has the contract and finds them by name."""
