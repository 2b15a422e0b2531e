"""What a model can learn: one file a task; `task` holds the contract and finds them by name."""
