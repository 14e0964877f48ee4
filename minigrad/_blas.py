"""Loads NumPy so that OpenBLAS uses AVX-512 on AMD chips that it does not know yet. Imported before anything else.

OpenBLAS picks its kernels by processor family when NumPy loads, and takes AVX2 kernels on AMD families newer than
itself even where they have AVX-512. Naming a kernel set in ``OPENBLAS_CORETYPE`` while NumPy loads mends that; the
variable is removed right after, so that child processes see the environment as the user left it. Nothing is done if
NumPy is loaded already, if the user chose a kernel set, or if ``MINIGRAD_BLAS=default``.

``MINIGRAD_BLAS`` also says with what kernels multiply, see `minigrad.devices.blas_library`.
"""

import os
import sys

_CHOICES = ("mkl", "openblas", "default")
_VARIABLE = "OPENBLAS_CORETYPE"
_FIRST_UNKNOWN_AMD_FAMILY = 26  # Zen 5; OpenBLAS chooses AVX-512 kernels by itself for family 25 (Zen 4)
_NEEDED = {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}


def wants_avx512(cpuinfo: str) -> bool:
    """Whether this text of ``/proc/cpuinfo`` describes a chip whose AVX-512 units OpenBLAS would leave idle."""
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        name, found, value = line.partition(":")
        if found:
            fields.setdefault(name.strip(), value.strip())
    return (
        fields.get("vendor_id") == "AuthenticAMD"
        and fields.get("cpu family", "").isdigit()
        and int(fields["cpu family"]) >= _FIRST_UNKNOWN_AMD_FAMILY
        and set(fields.get("flags", "").split()) >= _NEEDED
    )


def load_numpy() -> str:
    """Import NumPy and return one sentence on what was done about OpenBLAS, for ``python -m minigrad info``."""
    if "numpy" in sys.modules:
        return "left alone: NumPy was loaded before minigrad"
    if CHOICE == "default":
        return "left alone: MINIGRAD_BLAS=default"
    if _VARIABLE in os.environ:
        return f"left alone: {_VARIABLE}={os.environ[_VARIABLE]} is set"
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            wanted = wants_avx512(file.read(16384))
    except OSError:
        wanted = False
    if not wanted:
        return "left alone: OpenBLAS chooses well on this processor"
    os.environ[_VARIABLE] = "SkylakeX"
    try:
        import numpy  # noqa: F401
    finally:
        os.environ.pop(_VARIABLE, None)
    return f"{_VARIABLE}=SkylakeX while NumPy loaded (MINIGRAD_BLAS=default turns this off)"


CHOICE = os.environ.get("MINIGRAD_BLAS", "")
if CHOICE not in ("", *_CHOICES):
    raise ImportError(f"MINIGRAD_BLAS: got {CHOICE!r}, expected one of {', '.join(_CHOICES)}, or nothing")
REPORT = load_numpy()
