"""Serving a model over HTTP: batching of requests, and limits.

What a model answers is the `Api` of its task, and no task is known by name. A request is validated
in full where it comes in, on the event loop; then it goes to the one thread that owns the model. So
a bad request never reaches the model, nor one that waits beside it.
"""
