"""Each library's own gradient check on the planted faults: ``python -m minigrad.gradcheck.study.peers torch``.

A process for each library, which prints JSON. A library is asked as its documentation asks it: its check at its own
tolerances, to second order. It is given the same function and arguments in float64 and in float32, and a fault counts
as caught if either says so while it lets the sound function pass.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigrad.gradcheck.result import INCONCLUSIVE, PASSED
from minigrad.gradcheck.study.faults import FAULTS, NAMES, SUMMED, Gradient, arguments, forward

UNDECIDED = "can't tell"
_REPEATS = 5


class Library:
    """A library's words, how it takes a gradient of one's own, and its check."""

    name = ""
    memory = True  # whether its arrays have strides, and its functions may remember
    dtypes: tuple[str, ...] = ("float64", "float32")

    def version(self) -> str:
        from importlib.metadata import version

        return version(self.name)

    def planted(self, gradient: Gradient) -> Callable:
        """`forward` with this gradient, as a function of the library's arrays."""
        raise NotImplementedError

    def arrays(self, values: Sequence[np.ndarray], dtype: str) -> list[Any]:
        raise NotImplementedError

    def check(self, fn: Callable, args: Sequence[Any], seed: int) -> str:
        """What the library says: `PASSED`, or words; where it can't tell, they begin with `UNDECIDED`."""
        raise NotImplementedError

    def gradient(self, fn: Callable, args: Sequence[Any]) -> Any:
        """The gradient of the sum, taken once, to be timed."""
        raise NotImplementedError

    def case(self, fault: str | None, seed: int, dtype: str, summed: bool = False) -> tuple[Callable, list[Any]]:
        """The function with a fault, or with none, and its arguments; `summed`, the sum of y, of gradient 0."""
        planted, args = self.planted(Gradient(fault, seed)), self.arrays(arguments(seed), dtype)
        if not summed and fault != SUMMED:
            return planted, args
        x, _, beta = args
        (ones,) = self.arrays([np.ones(beta.shape)], dtype)
        return lambda x: planted(x, ones, beta)[:, :-1].sum(), [x]


class _NumPy:
    """NumPy's words, for reference kernels."""

    sum = staticmethod(np.sum)
    sqrt = staticmethod(np.sqrt)

    @staticmethod
    def beside(a: Any, b: Any) -> Any:
        return np.concatenate([a, b], axis=1)


class Minigrad(Library):
    name = "minigrad"
    dtypes = ("float64",)  # its check sees to float32 by itself

    def __init__(self) -> None:
        import minigrad as mg

        self.mg, self.sum, self.sqrt = mg, mg.sum, mg.sqrt

    def beside(self, a: Any, b: Any) -> Any:
        return self.mg.concatenate([a, b], axis=1)

    def value(self, a: Any) -> np.ndarray:
        return a.numpy()

    def constant(self, a: np.ndarray, like: Any) -> Any:
        return self.mg.Tensor(np.asarray(a).astype(like.dtype))

    def detach(self, a: Any) -> Any:
        return a.detach()

    def version(self) -> str:
        return self.mg.__version__

    def planted(self, gradient: Gradient) -> Callable:
        mg = self.mg
        p = mg.Primitive("study::norm", override=True, derived=True)
        p.infer(lambda x, gamma, beta: mg.Abstract((x.shape[0], x.shape[1] + 1), x.dtype))
        numpy: Any = _NumPy
        p.kernel("reference", "cpu")(lambda x, gamma, beta: forward(numpy, x, gamma, beta).astype(x.dtype))

        @p.vjp(saves=("x", "gamma", "beta"))
        def _(ct: Any, saved: Any, needs: Any) -> Any:
            return gradient(self, ct, saved.x, saved.gamma, saved.beta)

        return lambda x, gamma, beta: p(x, gamma, beta)

    def arrays(self, values: Sequence[np.ndarray], dtype: str) -> list[Any]:
        return [self.mg.tensor(a, dtype=dtype) for a in values]

    def check(self, fn: Callable, args: Sequence[Any], seed: int) -> str:
        report = self.mg.gradcheck.check(fn, args, seed=seed, checks="all", second_on="reference")
        if report.verdict == INCONCLUSIVE:
            return f"{UNDECIDED}: {report.explained()}"
        return PASSED if report.passed else report.explained()

    def gradient(self, fn: Callable, args: Sequence[Any]) -> Any:
        return self.mg.grad(lambda *a: fn(*a).sum(), (0, 1, 2))(*args)


class Torch(Library):
    name = "torch"

    def __init__(self) -> None:
        import torch

        torch.set_num_threads(1)
        self.torch, self.sum, self.sqrt = torch, torch.sum, torch.sqrt

    def beside(self, a: Any, b: Any) -> Any:
        return self.torch.cat([a, b], dim=1)

    def value(self, a: Any) -> np.ndarray:
        return a.detach().numpy()

    def constant(self, a: np.ndarray, like: Any) -> Any:
        return self.torch.as_tensor(np.ascontiguousarray(a)).to(like.dtype)

    def detach(self, a: Any) -> Any:
        return a.detach()

    def planted(self, gradient: Gradient) -> Callable:
        lib = self

        class Norm(self.torch.autograd.Function):  # type: ignore[name-defined]
            @staticmethod
            def forward(ctx: Any, x: Any, gamma: Any, beta: Any) -> Any:
                ctx.save_for_backward(x, gamma, beta)
                return forward(lib, x, gamma, beta)

            @staticmethod
            def backward(ctx: Any, ct: Any) -> Any:
                return gradient(lib, ct, *ctx.saved_tensors)

        return Norm.apply

    def arrays(self, values: Sequence[np.ndarray], dtype: str) -> list[Any]:
        return [self.torch.tensor(a, dtype=getattr(self.torch, dtype), requires_grad=True) for a in values]

    def check(self, fn: Callable, args: Sequence[Any], seed: int) -> str:
        self.torch.manual_seed(seed)
        try:
            self.torch.autograd.gradcheck(fn, args)
            self.torch.autograd.gradgradcheck(fn, args)
        except Exception as error:
            return str(error)
        return PASSED

    def gradient(self, fn: Callable, args: Sequence[Any]) -> Any:
        return self.torch.autograd.grad(fn(*args).sum(), args)


class Jax(Library):
    name = "jax"
    memory = False

    def __init__(self) -> None:
        import jax

        jax.config.update("jax_enable_x64", True)
        import jax.numpy as jnp
        from jax.test_util import check_grads

        self.jax, self.jnp, self.check_grads = jax, jnp, check_grads
        self.sum, self.sqrt = jnp.sum, jnp.sqrt

    def beside(self, a: Any, b: Any) -> Any:
        return self.jnp.concatenate([a, b], axis=1)

    def value(self, a: Any) -> Any:
        return a

    def constant(self, a: Any, like: Any) -> Any:
        return self.jnp.asarray(a, like.dtype)

    def detach(self, a: Any) -> Any:
        return self.jax.lax.stop_gradient(a)

    def planted(self, gradient: Gradient) -> Callable:
        plain = functools.partial(forward, self)
        norm = self.jax.custom_vjp(lambda x, gamma, beta: plain(x, gamma, beta))
        norm.defvjp(lambda *args: (plain(*args), args), lambda args, ct: gradient(self, ct, *args))
        return norm

    def arrays(self, values: Sequence[np.ndarray], dtype: str) -> list[Any]:
        return [self.jnp.asarray(a, dtype) for a in values]

    def check(self, fn: Callable, args: Sequence[Any], seed: int) -> str:
        np.random.seed(seed)  # noqa: NPY002  (where its check takes directions from, in some releases)
        try:
            self.check_grads(fn, tuple(args), order=2, modes=("rev",))
        except Exception as error:
            return str(error)
        return PASSED

    def gradient(self, fn: Callable, args: Sequence[Any]) -> Any:
        return self.jax.block_until_ready(self.jax.grad(lambda *a: fn(*a).sum(), (0, 1, 2))(*args))


class Autograd(Library):
    name = "autograd"

    def __init__(self) -> None:
        import autograd
        import autograd.numpy as anp
        from autograd.test_util import check_grads

        self.autograd, self.anp, self.check_grads = autograd, anp, check_grads
        self.sum, self.sqrt = anp.sum, anp.sqrt

    def beside(self, a: Any, b: Any) -> Any:
        return self.anp.concatenate([a, b], axis=1)

    def value(self, a: Any) -> np.ndarray:
        while hasattr(a, "_value"):
            a = a._value
        return a

    def constant(self, a: np.ndarray, like: Any) -> Any:
        return np.asarray(a, like.dtype)

    detach = value

    def planted(self, gradient: Gradient) -> Callable:
        from autograd.extend import defvjp, primitive

        norm = primitive(lambda x, gamma, beta: forward(self, x, gamma, beta))
        rules = [lambda ans, *args, i=i: lambda ct: gradient(self, ct, *args)[i] for i in range(3)]
        defvjp(norm, *rules)
        return norm

    def arrays(self, values: Sequence[np.ndarray], dtype: str) -> list[Any]:
        return [np.asarray(a, dtype) for a in values]

    def check(self, fn: Callable, args: Sequence[Any], seed: int) -> str:
        np.random.seed(seed)  # noqa: NPY002  (where its check takes directions from)
        try:
            self.check_grads(fn, tuple(range(len(args))), modes=["rev"], order=2)(*args)
        except Exception as error:
            return str(error)
        return PASSED

    def gradient(self, fn: Callable, args: Sequence[Any]) -> Any:
        return self.autograd.grad(lambda a: self.anp.sum(fn(*a)))(tuple(args))


LIBRARIES: dict[str, type[Library]] = {lib.name: lib for lib in (Minigrad, Torch, Jax, Autograd)}


def outcome(lib: Library, fault: str | None, seed: int, dtype: str, summed: bool = False) -> str:
    """What a library's check says of the function with a fault, or with none."""
    fn, args = lib.case(fault, seed, dtype, summed)
    return lib.check(fn, args, seed)


def study(lib: Library, seeds: int, faults: Sequence[str] = NAMES, progress: Callable = iter) -> dict[str, Any]:
    """What the library's check says of each fault and seed, how often it is wrong of the sound one, and its cost."""
    tried = [(dtype, seed) for dtype in lib.dtypes for seed in range(seeds)]
    sound = {at: outcome(lib, None, at[1], at[0]) for at in tried}
    found: dict[str, Any] = {}
    for fault in progress([f for f in FAULTS if f.name in faults]):
        if fault.needs == "memory" and not lib.memory:
            found[fault.name] = None
            continue
        control = sound
        if fault.name == SUMMED:
            control = {at: outcome(lib, None, at[1], at[0], summed=True) for at in tried}
        said = {at: outcome(lib, fault.name, at[1], at[0]) for at in tried}
        # A check that refuses the sound function too has caught nothing.
        caught = {at for at in tried if _refuses(said[at]) and not _refuses(control[at])}
        words = next((said[at] for at in tried if at in caught), "")
        found[fault.name] = {"caught": len({seed for _, seed in caught}), "seeds": seeds, "says": words[:600]}
    alarms = {d: sum(sound[d, seed] != PASSED for seed in range(seeds)) for d in lib.dtypes}
    return {"version": lib.version(), "seeds": seeds, "false_alarms": alarms, "faults": found, **_costs(lib)}


def _refuses(text: str) -> bool:
    return text != PASSED and not text.startswith(UNDECIDED)


def _costs(lib: Library) -> dict[str, float]:
    """Seconds that a check of the sound function takes, and one gradient of it, both warm."""
    fn, args = lib.planted(Gradient(None)), lib.arrays(arguments(0), "float64")
    check = statistics.median(_seconds(lambda: lib.check(fn, args, 0)) for _ in range(_REPEATS))
    gradient = statistics.median(_seconds(lambda: lib.gradient(fn, args)) for _ in range(10 * _REPEATS))
    return {"check_seconds": check, "gradient_seconds": gradient}


def _seconds(run: Callable) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what a library's check comes to, as JSON; the result is the exit status, 3 if the library is absent."""
    parser = argparse.ArgumentParser(prog="python -m minigrad.gradcheck.study.peers", description=__doc__)
    parser.add_argument("library", choices=list(LIBRARIES))
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0 (default 3)")
    parser.add_argument("--fault", action="append", choices=NAMES, help="by default all")
    options = parser.parse_args(arguments)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to stderr
    try:
        importlib.import_module(options.library)
    except ModuleNotFoundError as error:
        if error.name != options.library:
            raise
        print(f"{sys.executable} has no {options.library}", file=sys.stderr)
        return 3
    from tqdm import tqdm

    bar = functools.partial(tqdm, desc=options.library, unit="fault", file=sys.stderr, leave=False, disable=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of float32
        found = study(LIBRARIES[options.library](), options.seeds, options.fault or NAMES, bar)
    json.dump(found, answers, indent=1)
    answers.write("\n")
    answers.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
