"""What is in the data, and what is wrong with it: checks of rows, without a model or TensorFlow."""
