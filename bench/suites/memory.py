"""The most memory that a training step takes: the networks of `train`, and deep ones."""

from __future__ import annotations

from collections.abc import Callable

from bench import peak, residual, training
from bench.case import Case
from bench.residual import Size
from bench.suites import train

TITLE = "peak memory of a training step above what the process held before the network, and of whole processes"
_WHOLE = ", whole process"
_WHOLES = ("width 100, batch 60, batch norm", "width 512, batch 128, batch norm", "CIFAR LeNet, batch 32")
_DEEP = Size(1000, 64, 32)
_CODE = "from bench.suites import memory; print(memory.measure({peer!r}, {name!r}))"


def missing() -> str:
    """Why there is nothing to measure here."""
    return peak.missing()


def cases(quick: bool) -> list[Case]:
    """A row a network; minigrad's must be at most torch's."""
    names = [case.name for case in train.cases(quick)] + ["1000 residual layers of 64, batch 32"] * (not quick)
    names += [name + _WHOLE for name in _WHOLES if name in names]
    return [Case(name, commands=commands(name), unit="MiB", faster=1.0, against="torch", repeat=1) for name in names]


def commands(name: str) -> dict[str, str]:
    return {peer: _CODE.format(peer=peer, name=name) for peer in ("minigrad", "torch", "jax")}


def measure(peer: str, name: str) -> float:
    """The peak of a peer's step, in MiB."""
    if name.endswith(_WHOLE):
        measure(peer, name.removesuffix(_WHOLE))
        return peak.of_process()
    known = {case.name: case for case in train.cases(False)}
    if name not in known:
        return peak.of_step(lambda: residual.step_of(peer, _DEEP), lambda: residual.step_of(peer, Size(2, 16, 8)))
    network, batch = train.network_of(known[name])
    return peak.of_step(lambda: _step(peer, network, batch), lambda: _step(peer, training.mlp(16), 8))


def _step(peer: str, network: training.Network, batch: int) -> Callable[[], float]:
    if peer == "minigrad":
        return train.step_of(network, batch, True)
    return (training.torch_step if peer == "torch" else training.jax_step)(network, batch)
