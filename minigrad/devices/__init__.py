"""The devices: memory, threads and compiled kernels, a module a device."""
