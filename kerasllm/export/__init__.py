"""Export: one module per format, the parity check, and the model card."""
