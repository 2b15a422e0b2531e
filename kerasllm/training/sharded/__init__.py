"""The second engine: training steps of models in shards, on Keras' JAX backend."""
