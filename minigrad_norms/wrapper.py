"""KernelWrapper: a layer whose kernel is computed from other Variables. What weight and spectral norm are made of."""

from __future__ import annotations

from typing import Any

import minigrad as mg
from minigrad import Tensor, Variable
from minigrad.errors import ArgumentError, ArgumentTypeError, MissingRuleError


class KernelWrapper(mg.nn.Layer):
    """A layer around another, which computes with the kernel that `effective` gives.

    The wrapper takes the inner layer's ``kernel`` Variable over, so it is listed and trained once, under the wrapper's
    name for it; from then on the inner layer is the wrapper's and can't be called by itself. Nothing is kept of an
    effective kernel from one call to the next. `remove` gives the inner layer back.

    A wrapper defines `adopt`, `surrender` and `effective`, and `before_call` if something is to be done then.

    Args:
        layer: has a `kernel` once it is built.
        axis: the kernel's axis of outputs, or several; by default the layer's ``kernel_axis``, or else the last.
        name: by default the layer's, with the wrapper's before it.

    Raises:
        ArgumentTypeError: for what is no layer, or is wrapped already.
        ArgumentError: if the layer turns out to have no kernel, or when called after `remove`.
    """

    def __init__(self, layer: Any, axis: Any = None, name: str | None = None):
        kind = type(self).__name__
        if not isinstance(layer, mg.nn.Layer):
            raise ArgumentTypeError(f"{kind}: layer is {layer!r}, expected a layer with a kernel")
        if isinstance(layer, KernelWrapper):
            raise ArgumentTypeError(f"{kind}: {layer.name} is wrapped already; wrappers don't nest")
        super().__init__(name or f"{kind.lower()}_{layer.name}", layer.dtype)
        self.layer: Any = layer
        self.axis = getattr(layer, "kernel_axis", -1) if axis is None else axis
        self.trainable = layer.trainable
        self.generator = layer.generator
        if layer.built:  # or training would see the kernel until the first call
            self._adopt()
            self.built = True

    def adopt(self, kernel: Variable) -> None:
        """Take the kernel over and make what else is needed."""
        raise MissingRuleError(f"{self.name}: {type(self).__name__} defines no adopt(kernel)")

    def surrender(self) -> Variable:
        """The Variable that `adopt` took over."""
        raise MissingRuleError(f"{self.name}: {type(self).__name__} defines no surrender()")

    def effective(self) -> Tensor:
        """The kernel that the layer computes with, in inference."""
        raise MissingRuleError(f"{self.name}: {type(self).__name__} defines no effective()")

    def before_call(self, x: Tensor, training: bool, options: dict) -> None:
        """Whatever changes state before the kernel is computed."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        self._present().build_once(shape)
        self._adopt()

    def call(self, x: Tensor, training: bool, **options: Any) -> Tensor:
        layer = self._present()
        self.before_call(x, training, options)
        return layer.replaced(kernel=self.effective())(x, training, **options)

    def remove(self) -> Any:
        """The plain layer, with the effective kernel of inference as its own: the same outputs, bit for bit.

        It is the layer that was given, its bias the same Variable as ever, its kernel the one that was taken over. The
        wrapper is spent.

        Raises:
            ArgumentError: if it was removed before.
        """
        layer = self._present()
        if self.built:
            kernel = self.surrender()
            with mg.no_grad():
                kernel.assign(self.effective())
            layer.kernel = kernel
        self.layer = None
        return layer

    def _adopt(self) -> None:
        kernel = getattr(self.layer, "kernel", None)
        if not isinstance(kernel, Variable):
            raise ArgumentError(
                f"{self.name}: {self.layer.name} has no kernel Variable to take over, it has {kernel!r}"
            )
        self.adopt(kernel)
        self.layer.kernel = None

    def _present(self) -> Any:
        if self.layer is None:
            raise ArgumentError(f"{self.name}: was removed; call the layer that remove() gave back")
        return self.layer
