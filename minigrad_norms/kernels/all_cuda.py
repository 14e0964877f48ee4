"""The CUDA kernels of the plugin's primitives. Importing it registers them, and touches no driver."""

from minigrad_norms.kernels import (
    local_response_cuda,
    lp_cuda,
    spectral_cuda,
    standardize_cuda,
    state_cuda,
    weighted_cuda,
)

__all__ = ["local_response_cuda", "lp_cuda", "spectral_cuda", "standardize_cuda", "state_cuda", "weighted_cuda"]
