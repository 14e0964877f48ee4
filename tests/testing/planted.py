"""Sound primitives, every rule of which is right. Tests replace one rule by a faulty one."""

import numpy as np

import minigrad as mg
from minigrad.devices import cpu
from minigrad.errors import ShapeError


def affine():
    """y = x·sin(w) + b along rows, b optional, and its row sums."""
    p = mg.Primitive("planted::affine", outputs=("y", "total"), override=True)

    @p.infer
    def _(x, w, b):
        for name, a in (("w", w), ("b", b)):
            if a is not None and a.shape != x.shape[1:]:
                raise ShapeError(f"affine: {name} has shape {a.shape}, expected {x.shape[1:]}")
        return mg.Abstract(x.shape, x.dtype), mg.Abstract(x.shape[:1], x.dtype)

    @p.kernel("reference")
    def _(x, w, b):
        y = x * np.sin(w) if b is None else x * np.sin(w) + b
        return y, y.sum(1)

    @p.kernel("cpu")
    def _(out, x, w, b):
        y, total = out
        np.multiply(x, np.sin(w), out=y)
        if b is not None:
            y += b
        np.sum(y, axis=1, out=total)

    @p.vjp(saves=("x", "w"))
    def _(ct, saved, needs):
        g = whole_cotangent(ct, saved.x)
        return g * mg.sin(saved.w), sum_rows(g * saved.x * mg.cos(saved.w)), sum_rows(g) if needs[2] else None

    @p.jvp
    def _(tangents, primals, outputs):
        dy = sum_of(affine_terms(tangents, primals), outputs[0])
        return dy, dy.sum(1)

    @p.samples
    def _(rng):
        x, w, b = rng.standard_normal((3, 5)), rng.standard_normal(5), rng.standard_normal(5)
        shifted = mg.Invariance("a shift of b", lambda x, w, b: (x, w, b + 2), lambda y, total: (y + 2, total + 10))
        yield mg.Sample((x, w, b), invariances=(shifted,), note="with a shift")
        yield mg.Sample((x[:1, :1], w[:1], None))
        yield mg.Sample((x, w[:2], None), error=ShapeError, match=r"affine: w has shape \(2,\), expected \(5,\)")

    return p


def whole_cotangent(ct, x):
    dy, dtotal = ct
    spread = None if dtotal is None else dtotal.reshape(-1, 1).broadcast_to(x.shape)
    return sum_of([dy, spread], x)


def affine_terms(tangents, primals):
    (tx, tw, tb), (x, w, _) = tangents, primals
    yield None if tx is None else tx * mg.sin(w)
    yield None if tw is None else x * tw * mg.cos(w)
    yield None if tb is None else tb.broadcast_to(x.shape)


def sum_of(terms, like):
    terms = [t for t in terms if t is not None]
    return sum(terms[1:], terms[0]) if terms else like * 0


def sum_rows(g):
    return g.sum(0)


@cpu.chunked
def add_up(chunk, chunks, partials, x):
    low, high = x.size * chunk // chunks, x.size * (chunk + 1) // chunks
    part = x[low:high]
    total = 0.0
    for i in range(part.size):
        total += part[i]
    partials[chunk] = total


def spread():
    """Σx by a compiled kernel in chunks, and the unbiased variance."""
    p = mg.Primitive("planted::spread", outputs=("total", "var"), override=True)
    p.no_derivative("this one is about kernels")

    @p.infer
    def _(x):
        if x.size < 2:
            raise ShapeError(f"spread: x has shape {x.shape}, expected two elements or more")
        return mg.Abstract((), x.dtype), mg.Abstract((), x.dtype)

    @p.workspace
    def _(x):
        return (mg.Abstract((cpu.chunks_of(x.size),), np.dtype("float64")),)

    @p.kernel("reference")
    def _(x):
        return x.sum(), x.var(ddof=1)

    @p.kernel("cpu")
    def _(out, x):
        chunks = cpu.chunks_of(x.size)
        add_up(chunks, x.size, chunks, out[2], cpu.contiguous(x).reshape(-1))
        finish(out, x)

    @p.samples
    def _(rng):
        for shape in [(2, 3), (5,), (3, 30001), (80003,), (2, 47000), (110001,)]:
            yield mg.Sample((rng.standard_normal(shape),))
        yield mg.Sample((np.ones(1),), error=ShapeError, match=r"x has shape \(1,\), expected two")

    return p


def finish(out, x, ddof=1):
    total, var, partials = out
    total[...] = partials.sum()
    var[...] = x.astype("float64").var(ddof=ddof)


def normalized():
    """y = x·r with r = 1/√(1 + Σx²), which is constant by definition."""
    p = mg.Primitive("planted::normalized", outputs=("y", "r"), frozen=("r",), override=True)
    p.infer(lambda x: (mg.Abstract(x.shape, x.dtype), mg.Abstract((), x.dtype)))

    @p.kernel("cpu")
    def _(out, x):
        for target, value in zip(out, p.reference(np.ascontiguousarray(x))):
            target[...] = value

    @p.kernel("reference")
    def _(x):
        r = 1 / np.sqrt(1 + np.sum(x * x))
        return (x * r).astype(x.dtype), r.astype(x.dtype)

    @p.vjp(saves=("r",))
    def _(ct, saved, needs):
        return ct[0] * saved.r

    @p.jvp
    def _(tangents, primals, outputs):
        return tangents[0] * outputs[1], None

    @p.samples
    def _(rng):
        x = rng.standard_normal((2, 3))
        _, r = p.reference(x)
        yield mg.Sample((x,), held=lambda x: (x * r, mg.tensor(r)))

    return p


SOUND = (affine, spread, normalized)
