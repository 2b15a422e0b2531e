"""A model behind HTTP: requests that wait are computed together, and none is let in that cannot be.

A request is checked in full where it comes in, on the event loop; what is left to compute goes to
the one thread that owns the model. So a bad request never reaches the model, nor one that waits
beside it.
"""
