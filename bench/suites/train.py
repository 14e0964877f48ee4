"""A whole training step: forward, softmax cross-entropy, backward, update; ten-layer networks and small convnets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench import training
from bench.case import Case, Work
from bench.training import EPSILON, MOMENTUM, RATES, Network

TITLE = (
    "training step: forward, cross-entropy, backward, update; minigrad under jit, torch eager, torch.compile, jax.jit"
)

# Name, network with arguments, batch, and the most it may take as a share of the fastest peer's time.
_NETWORKS: list[tuple[str, str, dict, int, float]] = [
    ("width 100, batch 60, batch norm", "mlp", {"width": 100, "norm": True}, 60, 0.60),
    ("width 100, batch 60, no norm", "mlp", {"width": 100, "norm": False}, 60, 0.60),
    ("width 512, batch 128, batch norm", "mlp", {"width": 512, "norm": True}, 128, 0.90),
    ("width 512, batch 128, no norm", "mlp", {"width": 512, "norm": False}, 128, 0.90),
    ("MNIST convnet, group norm, batch 32", "mnist", {"norm": "group"}, 32, 0.60),
    ("MNIST convnet, layer norm, batch 32", "mnist", {"norm": "layer"}, 32, 0.65),
    ("MNIST convnet, instance norm, batch 32", "mnist", {"norm": "instance"}, 32, 0.65),
    ("CIFAR LeNet, batch 32", "lenet", {"weight_norm": False}, 32, 0.75),
    ("CIFAR LeNet, weight norm, batch 32", "lenet", {"weight_norm": True}, 32, 0.75),
]


def cases(quick: bool) -> list[Case]:
    """A row a network."""
    rows = []
    for name, kind, arguments, batch, share in _NETWORKS:
        rows.append(Case(name, {"kind": kind, "arguments": arguments, "batch": batch}, faster=round(1 / share, 2)))
    return rows[:1] if quick else rows


def with_minigrad(case: Case) -> Work:
    network, batch = network_of(case)
    step, eager = (step_of(network, batch, jit) for jit in (True, False))
    return Work(step, check=losses(step_of(network, batch, True)), columns={"eager": Work(eager)})


def with_torch(case: Case) -> Work:
    return _work(lambda: training.torch_step(*network_of(case)))


def with_torch_compile(case: Case) -> Work:
    return _work(lambda: training.torch_step(*network_of(case), compiled=True))


def with_jax(case: Case) -> Work:
    return _work(lambda: training.jax_step(*network_of(case)))


def minigrad_step() -> Callable[[], float]:
    """An eager step of the first network."""
    return step_of(training.mlp(), 60, False)


def torch_step() -> Callable[[], float]:
    """The same in torch."""
    return training.torch_step(training.mlp(), 60)


def jax_step() -> Callable[[], float]:
    """The same in jax."""
    return training.jax_step(training.mlp(), 60)


def step_of(network: Network, batch: int, jit: bool, device: str = "cpu") -> Callable[[], float]:
    """A function that takes one step and returns the loss before it."""
    import minigrad as mg
    from minigrad import nn

    x, y = training.data(network, batch)
    model = _model(network)
    model(mg.tensor(x[:2]))  # makes the Variables
    kernels = iter(training.kernels(network))
    for layer in model.items:
        inner = getattr(layer, "layer", layer)
        if isinstance(inner, (nn.Dense, nn.Conv2D)):
            kernel = next(kernels)
            (layer.v if inner is not layer else layer.kernel).assign(mg.tensor(kernel))
            if inner is not layer:
                layer.g.assign(mg.tensor((kernel.reshape(-1, kernel.shape[-1]) ** 2).sum(0) ** 0.5))
    variables = model.to(device).trainable_variables
    rate = RATES[network.optimizer]
    optimizer: Any = mg.optim.SGD(rate) if network.optimizer == "sgd" else mg.optim.Adam(rate)

    def update(x: Any, y: Any) -> Any:
        loss = nn.losses.softmax_cross_entropy(model(x, True), y)
        loss.backward()
        optimizer.step(variables)
        return loss

    function = mg.jit(update) if jit else update
    given = [mg.Tensor(a).to(device) for a in (x, y)]
    return lambda: function(*given).item()


def _model(network: Network) -> Any:
    import minigrad_norms as norms
    from minigrad import nn

    made: dict[str, Callable[[], Any]] = {
        "batch": lambda: norms.BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON),
        "group": lambda: norms.GroupNormalization(groups=5, axis=3, epsilon=EPSILON),
        "layer": lambda: norms.LayerNormalization(axis=3, epsilon=EPSILON),
        "instance": lambda: norms.InstanceNormalization(axis=3, epsilon=EPSILON),
    }
    layers: list[Any] = []
    for stage in network.stages:
        if stage.kind in ("dense", "conv"):
            if stage.kind == "dense":
                layer: Any = nn.Dense(stage.shape[-1], use_bias=stage.bias)
            else:
                layer = nn.Conv2D(stage.shape[-1], stage.shape[0], use_bias=stage.bias)
            layers.append(norms.WeightNormalization(layer, data_init=False) if network.weight_norm else layer)
        elif stage.kind == "norm":
            layers.append(made[stage.norm]())
        else:
            layers.append(
                {"relu": lambda: nn.Activation("relu"), "pool": nn.MaxPooling2D, "flatten": nn.Flatten}[stage.kind]()
            )
    return nn.Sequential(layers)


def network_of(case: Case) -> tuple[Network, int]:
    return getattr(training, case.data["kind"])(**case.data["arguments"]), case.data["batch"]


def _work(make: Callable[[], Callable[[], float]]) -> Work:
    return Work(make(), check=losses(make()))


def losses(step: Callable[[], float]) -> Callable[[], list[float]]:
    """The losses of the first steps, which agree only if the gradients do."""
    return lambda: [step() for _ in range(3)]
