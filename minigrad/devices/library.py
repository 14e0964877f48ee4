"""Libraries of machine code that stand alone: what one process compiles is, bit for bit, what another loads.

Numba links a function's helpers into its library under names that the whole process shares. Of several copies, each
optimized in the company that it was linked into, a kernel then calls whichever came first, and fast-math leaves the
order of sums open: results would depend on what else was compiled or loaded before. Here a library keeps its copies to
itself, which also lets LLVM drop or specialize them.
"""

from typing import Any

from llvmlite.binding import Linkage
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler


class Library(JITCodeLibrary):
    """A library whose helpers have no name outside it."""

    def _optimize_final_module(self) -> None:
        for function in tuple(self._final_module.functions):
            if function.linkage in (Linkage.linkonce_odr, Linkage.weak_odr):
                function.linkage = Linkage.internal
                function.name += ".local"  # LLVM's loader looks names up without regard to linkage
        super()._optimize_final_module()


class Pipeline(Compiler):
    """Numba's compiler, into such a library."""

    def compile_extra(self, func: Any) -> Any:
        self.state.library = Library(self.state.targetctx.codegen(), func.__qualname__)
        self.state.library.enable_object_caching()
        return super().compile_extra(func)
