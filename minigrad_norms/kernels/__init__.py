"""Kernels of the plugin, a file a family and device."""
