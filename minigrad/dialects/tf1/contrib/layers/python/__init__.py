"""For scripts that import from tensorflow.contrib.layers.python.layers."""
