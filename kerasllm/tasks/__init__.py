"""Tasks: what a row looks like, which model and loss, which metrics, how a prediction reads."""
