"""Libraries of machine code that stand alone: what one process compiles is, bit for bit, what another loads.

Numba links a function's helpers into its library under names that the whole process shares. Of several copies, each
optimized in the company that it was linked into, a kernel then calls whichever came first, and fast-math leaves the
order of sums open: results would depend on what else was compiled or loaded before. Here a library keeps its copies to
itself, which also lets LLVM drop or specialize them.
"""

from typing import Any

from llvmlite.binding import Linkage, llvm_version_info, parse_bitcode
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler, CompileResult

if llvm_version_info < (20,):  # whose code for `cpu_math` is wrong by far more than its bounds, as its tests show
    raise ImportError("minigrad's kernels need LLVM 20 or later, which numba 0.62 brings: pip install 'numba>=0.62'")


class Library(JITCodeLibrary):
    """A library whose helpers have no name outside it; LLVM's form of its code is kept packed until it is asked for."""

    _bitcode = b""  # that form, packed

    def _get_module_for_linking(self) -> Any:
        if self._shared_module is None and self._bitcode:
            self._shared_module = parse_bitcode(self._bitcode)
        return super()._get_module_for_linking()

    def _optimize_final_module(self) -> None:
        for function in tuple(self._final_module.functions):
            if function.linkage in (Linkage.linkonce_odr, Linkage.weak_odr):
                function.linkage = Linkage.internal
                function.name += ".local"  # LLVM's loader looks names up without regard to linkage
        super()._optimize_final_module()


def loaded(context: Any, stored: tuple) -> Any:
    """The result of a compilation that was stored, as Numba's compiler would give it.

    Most kernels are only called. What it takes to link them into others is far larger than their machine code, so it is
    dropped, and made again where one is linked.
    """
    result = CompileResult._rebuild(context, *stored)
    _, _, (_, bitcode) = stored[0]
    result.library.__class__ = Library
    result.library._bitcode, result.library._shared_module = bitcode, None
    return result


class Pipeline(Compiler):
    """Numba's compiler, into such a library."""

    def compile_extra(self, func: Any) -> Any:
        self.state.library = Library(self.state.targetctx.codegen(), func.__qualname__)
        self.state.library.enable_object_caching()
        return super().compile_extra(func)
