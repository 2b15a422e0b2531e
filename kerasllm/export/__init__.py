"""A trained model leaves: one module a format, the check that it is still the model, its card."""
