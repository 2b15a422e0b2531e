"""Hyperparameter search over recipes: the space, the trials, plots of the result."""
