"""Convolutional layers, with Keras's arguments."""

from __future__ import annotations

from typing import Any

from minigrad import ops
from minigrad.errors import ArgumentError, ShapeError
from minigrad.nn import activations, constraints, initializers, regularizers
from minigrad.nn.images import Images
from minigrad.ops import windows
from minigrad.ops.convolution import positive
from minigrad.tensor import Tensor, Variable


class _Convolution(Images):
    """What convolutions share: a kernel of some shape, a bias, an activation."""

    kernel: Variable
    bias: Variable | None

    def __init__(
        self,
        kernel_size: Any,
        strides: Any,
        padding: Any,
        data_format: str | None,
        dilation_rate: Any,
        activation: Any,
        use_bias: bool,
        bias_initializer: Any,
        bias_regularizer: Any,
        bias_constraint: Any,
        name: str | None,
        dtype: Any,
    ):
        super().__init__(data_format, name, dtype)
        label = type(self).__name__
        self.kernel_size = windows.pair(label, "kernel_size", kernel_size)
        self.strides = windows.pair(label, "strides", strides)
        self.dilation_rate = windows.pair(label, "dilation_rate", dilation_rate)
        windows.explicit_pads(label, padding)  # raises for what it does not know
        self.padding = padding
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.bias_initializer = initializers.get(bias_initializer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.bias_constraint = constraints.get(bias_constraint)

    def _channels(self, shape: tuple[int | None, ...]) -> int:
        """The channels of an input of this shape."""
        self.require_images(shape)
        channels = shape[3 if self.data_format == "NHWC" else 1]
        if channels is None:
            raise ShapeError(f"{self.name}: the input has shape {shape}, whose channels must be known")
        return channels

    def _prepared(self, x: Tensor, channels: int) -> Tensor:
        """x, once it is known to have as many channels as the first input; integers in the layer's dtype."""
        if self._channels(x._data.shape) != channels:
            axes = f"(n, h, w, {channels})" if self.data_format == "NHWC" else f"(n, {channels}, h, w)"
            raise ShapeError(f"{self.name}: the input has shape {x.shape}, expected {axes}")
        return x.astype(self.kernel.dtype) if x._data.dtype.kind in "biu" else x

    def _finished(self, y: Tensor) -> Tensor:
        """y with the bias added and the activation applied."""
        if self.bias is not None:
            y = y + (self.bias if self.data_format == "NHWC" else self.bias.reshape(-1, 1, 1))
        return y if self.activation is None else self.activation(y)


class Conv2D(_Convolution):
    """activation(x ∗ kernel + bias), ∗ being `minigrad.conv2d`.

    Args:
        filters: the number of output channels.
        kernel_size: rows and columns: an integer for both, or two. So are `strides` and `dilation_rate`.
        padding: "valid", "same" or pads, as of `minigrad.conv2d`.
        data_format: "channels_last" (the default) or "channels_first".
        groups: into how many groups channels and filters are cut; filters see the channels of their own group.
        activation: a name or a function.
        use_bias: whether there is a bias; a layer before a normalization that shifts needs none.
        kernel_initializer, kernel_regularizer, kernel_constraint: names or functions; so are those of the bias.
        name, dtype: as of Layer.

    Shapes: x (n, h, w, channels), kernel (rows, columns, channels / groups, filters), bias (filters,), output
    (n, h', w', filters); with the channels first x (n, channels, h, w) and output (n, filters, h', w').

    Raises:
        ArgumentError, ArgumentTypeError: for sizes that are not positive integers, groups that do not divide channels
            and filters, and unknown names.
        ShapeError: if an input has not four axes, or other channels than the first one, or is smaller than the kernel.

    Example:
        >>> import minigrad as mg
        >>> layer = mg.nn.Conv2D(10, 3, padding="same", activation="relu")
        >>> layer(mg.tensor([[[[1.0]] * 28] * 28])).shape
        (1, 28, 28, 10)
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = (1, 1),
        padding: Any = "valid",
        data_format: str | None = None,
        dilation_rate: Any = (1, 1),
        groups: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(
            kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias, bias_initializer,
            bias_regularizer, bias_constraint, name, dtype,
        )  # fmt: skip
        self.filters = positive("Conv2D", "filters", filters)
        self.groups = positive("Conv2D", "groups", groups)
        if self.filters % self.groups:
            raise ArgumentError(f"Conv2D: groups is {groups}, expected a divisor of the {filters} filters")
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)

    def build(self, shape: tuple[int | None, ...]) -> None:
        channels = self._channels(shape)
        if channels % self.groups:
            raise ArgumentError(f"{self.name}: groups is {self.groups}, expected a divisor of the {channels} channels")
        self.kernel = self.add_parameter("kernel", (*self.kernel_size, channels // self.groups, self.filters))
        self.bias = self.add_parameter("bias", (self.filters,)) if self.use_bias else None

    def call(self, x: Tensor, training: bool) -> Tensor:
        x = self._prepared(x, self.kernel._data.shape[2] * self.groups)
        y = ops.conv2d(x, self.kernel, self.strides, self.padding, self.dilation_rate, self.groups, self.data_format)
        return self._finished(y)


class Conv2DTranspose(_Convolution):
    """activation(the transpose of a convolution + bias), as `minigrad.conv2d_transpose`: images grow by the strides.

    Arguments are those of `Conv2D`, but for `groups`, and

        output_padding: rows and columns added below and right, less than the strides; None for Keras's default sizes.

    Shapes: x (n, h, w, channels), kernel (rows, columns, filters, channels), bias (filters,), output (n, h', w',
    filters), where h' = h·s with "same" padding, and (h − 1)·s + rows with "valid" if the kernel is as long as s.

    Raises:
        as `Conv2D`.

    Example:
        >>> import minigrad as mg
        >>> layer = mg.nn.Conv2DTranspose(4, 3, strides=2, padding="same")
        >>> layer(mg.tensor([[[[1.0]] * 7] * 7])).shape
        (1, 14, 14, 4)
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = (1, 1),
        padding: Any = "valid",
        output_padding: Any = None,
        data_format: str | None = None,
        dilation_rate: Any = (1, 1),
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(
            kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias, bias_initializer,
            bias_regularizer, bias_constraint, name, dtype,
        )  # fmt: skip
        self.filters = positive("Conv2DTranspose", "filters", filters)
        self.output_padding = output_padding
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.kernel = self.add_parameter("kernel", (*self.kernel_size, self.filters, self._channels(shape)))
        self.bias = self.add_parameter("bias", (self.filters,)) if self.use_bias else None

    def call(self, x: Tensor, training: bool) -> Tensor:
        x = self._prepared(x, self.kernel._data.shape[3])
        y = ops.conv2d_transpose(
            x,
            self.kernel,
            self.strides,
            self.padding,
            self.output_padding,
            self.dilation_rate,
            data_format=self.data_format,
        )
        return self._finished(y)


class DepthwiseConv2D(_Convolution):
    """activation(a convolution of each channel by itself + bias): `depth_multiplier` outputs a channel.

    Arguments are those of `Conv2D` but for filters and groups; those of the kernel are named depthwise_initializer,
    depthwise_regularizer and depthwise_constraint, as in Keras.

    Shapes: x (n, h, w, channels), kernel (rows, columns, channels, depth_multiplier), bias and output's last axis
    channels · depth_multiplier.

    Raises:
        as `Conv2D`.

    Example:
        >>> import minigrad as mg
        >>> layer = mg.nn.DepthwiseConv2D(3, depth_multiplier=2)
        >>> layer(mg.tensor([[[[1.0, 2.0]] * 5] * 5])).shape
        (1, 3, 3, 4)
    """

    def __init__(
        self,
        kernel_size: Any,
        strides: Any = (1, 1),
        padding: Any = "valid",
        depth_multiplier: int = 1,
        data_format: str | None = None,
        dilation_rate: Any = (1, 1),
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        depthwise_constraint: Any = None,
        bias_constraint: Any = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(
            kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias, bias_initializer,
            bias_regularizer, bias_constraint, name, dtype,
        )  # fmt: skip
        self.depth_multiplier = positive("DepthwiseConv2D", "depth_multiplier", depth_multiplier)
        self.kernel_initializer = initializers.get(depthwise_initializer)
        self.kernel_regularizer = regularizers.get(depthwise_regularizer)
        self.kernel_constraint = constraints.get(depthwise_constraint)

    def build(self, shape: tuple[int | None, ...]) -> None:
        channels = self._channels(shape)
        self.kernel = self.add_parameter("kernel", (*self.kernel_size, channels, self.depth_multiplier))
        self.bias = self.add_parameter("bias", (channels * self.depth_multiplier,)) if self.use_bias else None

    def call(self, x: Tensor, training: bool) -> Tensor:
        rows, columns, channels, depth = self.kernel._data.shape
        x = self._prepared(x, channels)
        kernel = self.kernel.reshape(rows, columns, 1, channels * depth)
        return self._finished(
            ops.conv2d(x, kernel, self.strides, self.padding, self.dilation_rate, channels, self.data_format)
        )
