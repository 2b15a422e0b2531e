"""Which output of a model is explained: a number of each row, and the tokens that it is made of."""
