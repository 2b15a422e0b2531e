"""Search over recipes: what is varied, the trials and where they stand, plots of the result."""
