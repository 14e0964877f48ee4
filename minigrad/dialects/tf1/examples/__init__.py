"""For scripts that import from tensorflow.examples."""
