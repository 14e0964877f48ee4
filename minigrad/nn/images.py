"""Layers of images without Variables: pooling, upsampling and padding, with Keras's arguments."""

from __future__ import annotations

from typing import Any

from minigrad import ops
from minigrad.errors import ArgumentError, ShapeError
from minigrad.nn.layer import Layer
from minigrad.ops import windows
from minigrad.tensor import Tensor

_FORMATS = {None: "NHWC", "channels_last": "NHWC", "NHWC": "NHWC", "channels_first": "NCHW", "NCHW": "NCHW"}


class Images(Layer):
    """A layer of images: (n, h, w, channels), or (n, channels, h, w) with the channels first."""

    def __init__(self, data_format: str | None, name: str | None, dtype: Any = None):
        super().__init__(name, dtype)
        if data_format not in _FORMATS:
            raise ArgumentError(
                f"{type(self).__name__}: data_format is {data_format!r}, expected 'channels_last' or 'channels_first'"
            )
        self.data_format = _FORMATS[data_format]

    def require_images(self, shape: tuple[int | None, ...]) -> None:
        """Raise unless an input of this shape has four axes."""
        if len(shape) != 4:
            axes = "(n, h, w, channels)" if self.data_format == "NHWC" else "(n, channels, h, w)"
            raise ShapeError(f"{self.name}: the input has shape {shape}, expected {axes}")


class _Pooling(Images):
    """What poolings of windows share."""

    def __init__(
        self,
        pool_size: Any = (2, 2),
        strides: Any = None,
        padding: Any = "valid",
        data_format: str | None = None,
        name: str | None = None,
    ):
        super().__init__(data_format, name)
        label = type(self).__name__
        self.pool_size = windows.pair(label, "pool_size", pool_size)
        self.strides = self.pool_size if strides is None else windows.pair(label, "strides", strides)
        windows.explicit_pads(label, padding)
        self.padding = padding


class MaxPooling2D(_Pooling):
    """The largest of each window, as `minigrad.max_pool2d`.

    Args:
        pool_size: rows and columns of the window: an integer for both, or two.
        strides: from window to window; the window's size by default.
        padding: "valid", "same" or pads.
        data_format: "channels_last" (the default) or "channels_first".
        name: as of Layer.

    Shapes: (n, h, w, channels) to (n, h', w', channels); with the channels first accordingly.

    Raises:
        ArgumentError, ArgumentTypeError: for sizes that are not positive integers, and unknown names.
        ShapeError: if an input has not four axes, or is smaller than the window.

    Example:
        >>> import minigrad as mg
        >>> mg.nn.MaxPooling2D()(mg.tensor([[[[1.0], [2.0]], [[3.0], [0.0]]]])).tolist()
        [[[[3.0]]]]
    """

    def call(self, x: Tensor, training: bool) -> Tensor:
        self.require_images(x._data.shape)
        return ops.max_pool2d(x, self.pool_size, self.strides, self.padding, self.data_format)


class AveragePooling2D(_Pooling):
    """The mean of each window, pads left out, as `minigrad.avg_pool2d`. Arguments are those of `MaxPooling2D`."""

    def call(self, x: Tensor, training: bool) -> Tensor:
        self.require_images(x._data.shape)
        return ops.avg_pool2d(x, self.pool_size, self.strides, self.padding, self.data_format)


class _GlobalPooling(Images):
    """What poolings of whole images share."""

    def __init__(self, data_format: str | None = None, keepdims: bool = False, name: str | None = None):
        super().__init__(data_format, name)
        self.keepdims = keepdims

    @property
    def _axes(self) -> tuple[int, int]:
        return (1, 2) if self.data_format == "NHWC" else (2, 3)


class GlobalAveragePooling2D(_GlobalPooling):
    """The mean of each channel over the image: (n, h, w, channels) to (n, channels).

    Args:
        data_format: "channels_last" (the default) or "channels_first".
        keepdims: whether the axes of rows and columns stay, with length 1.
        name: as of Layer.

    Raises:
        ArgumentError: for an unknown data format.
        ShapeError: if an input has not four axes.
    """

    def call(self, x: Tensor, training: bool) -> Tensor:
        self.require_images(x._data.shape)
        return ops.mean(x, self._axes, keepdims=self.keepdims)


class GlobalMaxPooling2D(_GlobalPooling):
    """The largest of each channel over the image. Arguments are those of `GlobalAveragePooling2D`."""

    def call(self, x: Tensor, training: bool) -> Tensor:
        self.require_images(x._data.shape)
        return ops.max(x, self._axes, keepdims=self.keepdims)


class UpSampling2D(Images):
    """Images with `size` times the rows and columns, as `minigrad.upsample2d`.

    Args:
        size: an integer for both, or two.
        data_format: "channels_last" (the default) or "channels_first".
        interpolation: "nearest" or "bilinear", the latter with half-pixel centres.
        name: as of Layer.

    Raises:
        ArgumentError, ArgumentTypeError: for a size that is no positive integer, and unknown names.
        ShapeError: if an input has not four axes, or no pixels.
    """

    def __init__(
        self,
        size: Any = (2, 2),
        data_format: str | None = None,
        interpolation: str = "nearest",
        name: str | None = None,
    ):
        super().__init__(data_format, name)
        self.size = windows.pair("UpSampling2D", "size", size)
        if interpolation not in ("nearest", "bilinear"):
            raise ArgumentError(f"UpSampling2D: interpolation is {interpolation!r}, expected 'nearest' or 'bilinear'")
        self.interpolation = interpolation

    def call(self, x: Tensor, training: bool) -> Tensor:
        self.require_images(x._data.shape)
        return ops.upsample2d(x, self.size, self.interpolation, self.data_format)


class _Padding(Images):
    """What paddings share."""

    _mode: str

    def __init__(self, padding: Any = (1, 1), data_format: str | None = None, name: str | None = None):
        super().__init__(data_format, name)
        pads = windows.explicit_pads(type(self).__name__, padding)
        if pads is None:
            raise ArgumentError(f"{type(self).__name__}: padding is {padding!r}, expected integers")
        self.padding = pads

    def call(self, x: Tensor, training: bool) -> Tensor:
        self.require_images(x._data.shape)
        none = ((0, 0),)
        widths = (*none, *self.padding, *none) if self.data_format == "NHWC" else (*none, *none, *self.padding)
        return ops.pad(x, widths, self._mode)


class ZeroPadding2D(_Padding):
    """Zeros around images.

    Args:
        padding: ((top, bottom), (left, right)), (vertical, horizontal), or one integer for all four.
        data_format: "channels_last" (the default) or "channels_first".
        name: as of Layer.

    Raises:
        ArgumentError, ArgumentTypeError: for pads that are no integers of at least 0.
        ShapeError: if an input has not four axes.

    Example:
        >>> import minigrad as mg
        >>> mg.nn.ZeroPadding2D(((1, 0), (0, 2)))(mg.tensor([[[[5.0]]]])).reshape(2, 3).tolist()
        [[0.0, 0.0, 0.0], [5.0, 0.0, 0.0]]
    """

    _mode = "constant"


class ReflectionPadding2D(_Padding):
    """Images mirrored about their outermost pixels, which are not repeated. Arguments are those of `ZeroPadding2D`.

    Raises:
        ArgumentError: further, when called on an image with no more rows or columns than are to be mirrored.

    Example:
        >>> import minigrad as mg
        >>> x = mg.tensor([1.0, 2.0, 3.0]).reshape(1, 1, 3, 1)
        >>> mg.nn.ReflectionPadding2D((0, 2))(x).reshape(7).tolist()
        [3.0, 2.0, 1.0, 2.0, 3.0, 2.0, 1.0]
    """

    _mode = "reflect"
