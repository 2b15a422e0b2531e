"""The output of a model to explain: a number per row, and the tokens it depends on."""
