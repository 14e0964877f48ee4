"""How exact normalization is on hard float32 data: the largest error over the largest true value, forward and backward.

The truth is computed in extended precision from the same float32 inputs. An error of half a unit in the last place of
the largest value is 3e-8 to 6e-8; a result that is not finite where the truth is shows as inf.
"""

from __future__ import annotations

from typing import Any

from bench.case import Case, Work

TITLE = "largest error over the largest true value, float32 in and out, of y and dx"
WANTED = 5e-7

# A group of each norm has about this many elements, or a million.
_NORMS = {
    "layer": ((48, 1536), (1,)),
    "rms": ((48, 1536), (1,)),
    "batch": ((1536, 48), (0,)),
    "group": ((3, 16, 24, 32), (1, 2, 4)),  # NHWC in 4 groups of 8 channels
    "instance": ((3, 16, 96, 16), (1, 2)),  # NHWC
}
_MILLION = {
    "layer": (2, 1 << 20),
    "rms": (2, 1 << 20),
    "batch": (1 << 20, 2),
    "group": (1, 512, 256, 32),
    "instance": (1, 1024, 1024, 2),
}
_DATA = {
    "plain": 1e-3,
    "mean 1e6, spread 1": 1e-3,
    "scale 1e30": 1e-3,
    "scale 1e-30, epsilon 0": 0.0,
    "a million of mean 1e6": 1e-3,
    "Cauchy": 1e-3,
    "a single spike": 1e-3,
    "constant groups": 1e-3,
}
_GROUPS = 4


def cases(quick: bool) -> list[Case]:
    """A row for each norm, kind of data, and direction."""
    rows = []
    for data, epsilon in _DATA.items():
        for norm in _NORMS:
            for i, result in enumerate(("y", "dx")):
                given = {"norm": norm, "data": data, "epsilon": epsilon, "result": i}
                rows.append(Case(f"{norm}, {data}: {result}", given, unit="", below=WANTED, compared=False))
    return [r for r in rows if r.data["data"] == "mean 1e6, spread 1"] if quick else rows


def with_minigrad(case: Case) -> Work:
    import minigrad as mg
    import minigrad_norms as norms

    epsilon = case.data["epsilon"]
    function = {
        "layer": lambda x, g, b: norms.layer_norm(x, g, b, epsilon=epsilon),
        "rms": lambda x, g, b: norms.rms_norm(x, g, b, epsilon=epsilon),
        "batch": lambda x, g, b: norms.standardize(x, g, b, axes=0, parameter_axes=1, epsilon=epsilon)[0],
        "group": lambda x, g, b: norms.group_norm(x, g, b, groups=_GROUPS, epsilon=epsilon),
        "instance": lambda x, g, b: norms.instance_norm(x, g, b, epsilon=epsilon),
    }[case.data["norm"]]

    def results(x: Any, gamma: Any, beta: Any, ct: Any) -> tuple:
        leaf = mg.tensor(x, requires_grad=True)
        y = function(leaf, mg.tensor(gamma), mg.tensor(beta))
        y.backward(mg.tensor(ct))
        assert leaf.grad is not None
        return y.numpy(), leaf.grad.numpy()

    return _work(case, results)


def with_torch(case: Case) -> Work:
    import torch
    import torch.nn.functional as F

    epsilon, ndim = case.data["epsilon"] or 1e-300, len(_NORMS[case.data["norm"]][0])  # it refuses 0; in float32 it is
    function = {
        "layer": lambda x, g, b: F.layer_norm(x, g.shape, g, b, eps=epsilon),
        "rms": lambda x, g, b: F.rms_norm(x, g.shape, g, eps=epsilon) + b,
        "batch": lambda x, g, b: F.batch_norm(x, None, None, g, b, training=True, eps=epsilon),
        "group": lambda x, g, b: F.group_norm(x, _GROUPS, g, b, eps=epsilon),
        "instance": lambda x, g, b: F.instance_norm(x, None, None, g, b, True, eps=epsilon),
    }[case.data["norm"]]

    def results(*arrays: Any) -> tuple:
        x, gamma, beta, ct = map(torch.from_numpy, arrays)
        if ndim == 4:
            x, ct = x.permute(0, 3, 1, 2), ct.permute(0, 3, 1, 2)
        x.requires_grad_()
        y = function(x, gamma, beta)
        (dx,) = torch.autograd.grad(y, x, ct)
        return tuple((t.permute(0, 2, 3, 1) if ndim == 4 else t).detach().numpy() for t in (y, dx))

    return _work(case, results)


def with_jax(case: Case) -> Work:
    import jax
    import jax.numpy as jnp
    import numpy as np

    epsilon = case.data["epsilon"]

    @jax.jit
    def both(x: Any, gamma: Any, beta: Any, ct: Any) -> tuple:
        def formula(x: Any) -> Any:
            cut, g, b, axes = _cut(case, x, gamma, beta)
            centred = cut if case.data["norm"] == "rms" else cut - jnp.mean(cut, axes, keepdims=True)
            var = jnp.mean(centred * centred, axes, keepdims=True)
            return (centred * (jax.lax.rsqrt(var + epsilon) * g) + b).reshape(x.shape)

        y, pull = jax.vjp(formula, x)
        return y, *pull(ct)

    return _work(case, lambda *arrays: tuple(map(np.asarray, both(*arrays))))


def _work(case: Case, results: Any) -> Work:
    def error(in_last_place: bool) -> float:
        import numpy as np

        arrays = _arrays(case)
        true = _truth(case, *arrays)[case.data["result"]]
        found = results(*arrays)[case.data["result"]]
        largest = np.abs(true).max()
        if not np.isfinite(found).all():
            return float("inf")
        difference = np.abs(found - true).max()
        return float(difference / (np.spacing(np.float32(largest)) if in_last_place else largest))

    return Work(value=lambda: error(False), columns={"[ulp]": Work(value=lambda: error(True))})


def _truth(case: Case, x: Any, gamma: Any, beta: Any, ct: Any) -> tuple:
    """y and dx in NumPy's longest floats."""
    import numpy as np

    shape = x.shape
    x, gamma, beta, ct = (a.astype(np.longdouble) for a in (x, gamma, beta, ct))
    x, g, b, axes = _cut(case, x, gamma, beta)
    rms = case.data["norm"] == "rms"

    def mean(a: Any) -> Any:
        return np.mean(a, axes, keepdims=True)

    centred = x if rms else x - mean(x)
    rstd = 1 / np.sqrt(mean(centred * centred) + case.data["epsilon"])
    standard, h = centred * rstd, ct.reshape(x.shape) * g
    dx = rstd * (h - (0 if rms else mean(h)) - standard * mean(h * standard))
    return (standard * g + b).reshape(shape), dx.reshape(shape)


def _cut(case: Case, x: Any, gamma: Any, beta: Any) -> tuple:
    """x with an axis of groups where there are some, the parameters ready to broadcast, and the axes to reduce."""
    axes = _NORMS[case.data["norm"]][1]
    if case.data["norm"] != "group":
        return x, gamma, beta, axes
    cut = (_GROUPS, gamma.shape[0] // _GROUPS)
    return x.reshape(*x.shape[:-1], *cut), gamma.reshape(cut), beta.reshape(cut), axes


def _arrays(case: Case) -> list:
    """x, gamma, beta and the cotangent in float32: the same for every peer."""
    import numpy as np

    norm, data = case.data["norm"], case.data["data"]
    rng = np.random.default_rng(12)
    shape = _MILLION[norm] if data == "a million of mean 1e6" else _NORMS[norm][0]
    x = rng.standard_normal(shape)
    if "mean 1e6" in data:
        x += 1e6
    elif data.startswith("scale"):
        x *= float(data.split()[1].rstrip(","))
    elif data == "Cauchy":
        x = rng.standard_cauchy(shape)
    elif data == "a single spike":
        x *= 0
        x.reshape(-1)[x.size // 3] = 1e4
    elif data == "constant groups":
        x = np.full(shape, 7.7)
    gamma, beta = rng.standard_normal(shape[-1]), rng.standard_normal(shape[-1])
    return [np.ascontiguousarray(a, np.float32) for a in (x, gamma, beta, rng.standard_normal(shape))]
