"""The kit proves itself: every fault that is planted in a sound primitive is caught, with every seed, by its check."""

import numba
import numpy as np
import planted
import pytest
from planted import finish, sum_of, sum_rows, whole_cotangent

import minigrad as mg
from minigrad.devices import cpu
from minigrad.errors import ArgumentError, GradientError, ShapeError

SEEDS = range(5)
FAULTS = []


def fault(make, *checks):
    """Register a function that plants a fault in the primitive of `make`, and the checks that must see it."""

    def register(plant):
        FAULTS.append(pytest.param(make, plant, set(checks), id=plant.__name__))
        return plant

    return register


@pytest.mark.parametrize("make", planted.SOUND)
@pytest.mark.parametrize("seed", SEEDS)
def test_sound_primitives_pass(make, seed):
    mg.gradcheck.check_primitive(make(), seed=seed).require()


# Shapes, dtypes, errors


@fault(planted.affine, "infer")
def wrong_shape_by_infer(p):
    p.infer(lambda x, w, b: (mg.Abstract(x.shape, x.dtype), mg.Abstract((x.shape[0], 1), x.dtype)))


@fault(planted.affine, "infer")
def an_output_too_few(p):
    p.infer(lambda x, w, b: mg.Abstract(x.shape, x.dtype))


@fault(planted.affine, "infer")
def wrong_dtype(p):
    @p.kernel("reference")
    def _(x, w, b):
        y = x * np.sin(w) + (0 if b is None else b)
        return y, y.sum(1, dtype=np.result_type(x.dtype, np.float64))


@fault(planted.affine, "bad input")
def wrong_error_class(p):
    infer_with(p, ArgumentError, "affine: w has shape {}, expected {}")


@fault(planted.affine, "bad input")
def wrong_message(p):
    infer_with(p, ShapeError, "wrong shape")


@fault(planted.affine, "bad input")
def no_error(p):
    p.infer(lambda x, w, b: (mg.Abstract(x.shape, x.dtype), mg.Abstract(x.shape[:1], x.dtype)))


def infer_with(p, error, message):
    @p.infer
    def _(x, w, b):
        if w.shape != x.shape[1:]:
            raise error(message.format(w.shape, x.shape[1:]))
        return mg.Abstract(x.shape, x.dtype), mg.Abstract(x.shape[:1], x.dtype)


# Derivatives


def vjp_with(p, of_x=lambda g, s: g * mg.sin(s.w), of_w=lambda g, s: g * s.x * mg.cos(s.w), whole=whole_cotangent):
    @p.vjp(saves=("x", "w"))
    def _(ct, saved, needs):
        g = whole(ct, saved.x)
        return of_x(g, saved), sum_rows(of_w(g, saved)), sum_rows(g) if needs[2] else None


@fault(planted.affine, "central differences", "adjoint")
def wrong_sign(p):
    vjp_with(p, of_w=lambda g, s: -(g * s.x * mg.cos(s.w)))


@fault(planted.affine, "central differences", "adjoint")
def missing_cotangent(p):
    vjp_with(p, whole=lambda ct, x: sum_of([ct[0]], x))


@fault(planted.affine, "central differences", "adjoint")
def two_percent_too_much(p):
    vjp_with(p, of_x=lambda g, s: 1.02 * g * mg.sin(s.w))


@fault(planted.affine, "second order")
def constant_in_second_order(p):
    vjp_with(p, of_x=lambda g, s: g * mg.sin(s.w.detach()))


@fault(planted.affine, "central differences")
def zero_for_a_gradient(p):
    @p.vjp(saves=("x", "w"))
    def _(ct, saved, needs):
        g = whole_cotangent(ct, saved.x)
        return g * mg.sin(saved.w), None, sum_rows(g) if needs[2] else None


@fault(planted.affine, "parts")
def too_few_cotangents(p):
    @p.vjp(saves=("x", "w"))
    def _(ct, saved, needs):
        return whole_cotangent(ct, saved.x) * mg.sin(saved.w), None


@fault(planted.affine, "parts")
def one_needed_input_decides_for_another(p):
    @p.vjp(saves=("x", "w"))
    def _(ct, saved, needs):
        g = whole_cotangent(ct, saved.x)
        dw = sum_rows(g * saved.x * mg.cos(saved.w)) if needs[0] else None
        return g * mg.sin(saved.w), dw, sum_rows(g) if needs[2] else None


@fault(planted.affine, "parts")
def a_cotangent_alone_is_forgotten(p):
    vjp_with(p, whole=lambda ct, x: x * 0 if ct[0] is None else whole_cotangent(ct, x))


@fault(planted.affine, "parts")
def cotangents_read_as_memory_lies(p):
    def whole(ct, x):
        g = whole_cotangent(ct, x)
        return g if ct[0] is None else g - ct[0] + mg.Tensor(ct[0].numpy().ravel("K").reshape(x.shape))

    vjp_with(p, whole=whole)


@fault(planted.affine, "parts")
def gradient_of_another_dtype(p):
    vjp_with(p, of_w=lambda g, s: (g * s.x * mg.cos(s.w)).astype("float64"))


@fault(planted.affine, "parts")
def gradient_of_another_shape(p):
    vjp_with(p, of_x=lambda g, s: (g * mg.sin(s.w)).reshape(-1))


@fault(planted.affine, "adjoint", "complex step")
def dropped_term_in_forward_mode(p):
    @p.jvp
    def _(tangents, primals, outputs):
        dy = sum_of(list(planted.affine_terms(tangents, primals))[::2], outputs[0])
        return dy, dy.sum(1)


@fault(planted.affine, "parts")
def a_tangent_alone_is_forgotten(p):
    @p.jvp
    def _(tangents, primals, outputs):
        if tangents[0] is None:
            return None, None
        dy = sum_of(planted.affine_terms(tangents, primals), outputs[0])
        return dy, dy.sum(1)


@fault(planted.normalized, "central differences")
def a_frozen_value_that_is_not_held(p):
    @p.vjp(saves=("x", "r"))
    def _(ct, saved, needs):
        x, r = saved.x, saved.r
        return ct[0] * r - x * (ct[0] * x).sum() * r * r * r


@fault(planted.normalized, "second order")
def a_frozen_value_that_is_not_held_in_second_order(p):
    @p.vjp(saves=("x",))
    def _(ct, saved, needs):
        return ct[0] / mg.sqrt(1 + mg.square(saved.x).sum())


@fault(planted.normalized, "adjoint", "complex step")
def a_frozen_value_that_moves_in_forward_mode(p):
    @p.jvp
    def _(tangents, primals, outputs):
        (t,), (x,), r = tangents, primals, outputs[1]
        return t * r - x * (x * t).sum() * r * r * r, None


# Samples that the kit makes


@fault(planted.affine, "cpu float32")
def an_optional_input_that_is_always_used(p):
    p.samples(lambda rng: iter(full_samples(rng)))

    @p.kernel("cpu")
    def _(out, x, w, b):
        np.multiply(x, np.sin(w), out=out[0])
        out[0][...] += b
        np.sum(out[0], axis=1, out=out[1])


@fault(planted.affine, "sizes")
def a_row_that_is_taken_for_a_scalar(p):
    p.samples(lambda rng: iter(full_samples(rng)[:1]))

    @p.kernel("cpu")
    def _(out, x, w, b):
        np.multiply(x, np.sin(w), out=out[0])
        if x.shape[1] > 1:
            out[0][...] += b
        np.sum(out[0], axis=1, out=out[1])


@fault(planted.affine, "sizes")
def an_empty_input_that_infer_takes_and_the_kernel_does_not(p):
    @p.kernel("cpu")
    def _(out, x, w, b):
        out[0][...] = x * np.sin(w) + (0 if b is None else b)
        out[1][...] = out[0].sum(1) + 0 * x[:, 0]


def full_samples(rng):
    x, w, b = rng.standard_normal((3, 5)), rng.standard_normal(5), rng.standard_normal(5)
    return [mg.Sample((x, w, b)), mg.Sample((x[:1, :1], w[:1], None), differentiable=False)]


@fault(planted.affine, "invariances")
def an_invariance_that_is_none(p):
    @p.samples
    def _(rng):
        scaled = mg.Invariance("a scale of w", lambda x, w, b: (x, 2 * w, b))
        yield mg.Sample((rng.standard_normal((3, 5)), rng.standard_normal(5), None), invariances=(scaled,))


# Kernels


def product(x, w, b):
    return x * np.sin(w) + (0 if b is None else b)


@fault(planted.affine, "cpu float32", "cpu float64")
def off_by_one_at_the_end(p):
    @p.kernel("cpu")
    def _(out, x, w, b):
        out[0][...] = product(x, w, b)
        np.sum(out[0][:, :-1], axis=1, out=out[1])


@fault(planted.affine, "cpu float32", "cpu float64")
def low_precision(p):
    @p.kernel("cpu")
    def _(out, x, w, b):
        out[0][...] = product(x, w.astype(np.float16), b)
        np.sum(out[0], axis=1, out=out[1])


@fault(planted.affine, "cpu float64")
def single_precision_in_double(p):
    @p.kernel("cpu")
    def _(out, x, w, b):
        out[0][...] = product(x, w.astype(np.float32), b)
        np.sum(out[0], axis=1, out=out[1])


@fault(planted.affine, "layouts")
def memory_read_as_it_lies(p):
    @p.kernel("cpu")
    def _(out, x, w, b):
        out[0][...] = product(x.ravel("K").reshape(x.shape), w, b)
        np.sum(out[0], axis=1, out=out[1])


@fault(planted.affine, "layouts")
def strides_of_0_read_as_1(p):
    @p.kernel("cpu")
    def _(out, x, w, b):
        rows = x if x.strides[0] else x + np.arange(len(x), dtype=x.dtype)[:, None]
        out[0][...] = product(rows, w, b)
        np.sum(out[0], axis=1, out=out[1])


@fault(planted.affine, "buffers")
def changed_input(p):
    @p.kernel("cpu")
    def _(out, x, w, b):
        out[0][...] = product(x, w, b)
        np.sum(out[0], axis=1, out=out[1])
        x[0, 0] = 0


@fault(planted.affine, "buffers")
def output_that_is_an_input(p):
    @p.kernel("reference", "cpu")
    def _(x, w, b):
        y = product(x, w, b)
        if np.array_equal(y, x):
            return x, x.sum(1)
        return y, y[:, 0] if y.shape[1] == 1 else y.sum(1)


@fault(planted.affine, "buffers")
def stale_output(p):
    @p.kernel("cpu")
    def _(out, x, w, b):
        out[0][...] = product(x, w, b)
        out[1][1:] = out[0].sum(1)[1:]


@fault(planted.affine, "buffers")
def output_added_to(p):
    @p.kernel("cpu")
    def _(out, x, w, b):
        out[0][...] = product(x, w, b)
        out[1][...] += out[0].sum(1)


@fault(planted.spread, "buffers")
def written_beyond_the_end(p):
    @p.kernel("cpu")
    def _(out, x):
        one_chunk(out, x)
        np.lib.stride_tricks.as_strided(out[1], (2,), out[1].strides or (out[1].itemsize,))[1] = 0


@fault(planted.spread, "buffers")
def read_beyond_the_end(p):
    @p.kernel("cpu")
    def _(out, x):
        x = cpu.contiguous(x).reshape(-1)
        one_chunk(out, np.lib.stride_tricks.as_strided(x, (x.size + 1,), x.strides)[:-1])
        beyond = np.lib.stride_tricks.as_strided(x, (x.size + 1,), x.strides)[-1]
        out[0][...] += beyond if np.isfinite(beyond) and abs(beyond) < 1 else np.finfo(x.dtype).eps


@fault(planted.spread, "cpu float32", "cpu float64")
def biased_for_unbiased(p):
    @p.kernel("cpu")
    def _(out, x):
        one_chunk(out, x, ddof=0)


@cpu.chunked
def add_up_but_the_last(chunk, chunks, partials, x):
    low, high = x.size * chunk // chunks, x.size * (chunk + 1) // chunks
    total = 0.0
    for i in range(low, high if chunk == chunks - 1 else high - 1):
        total += x[i]
    partials[chunk] = total


@fault(planted.spread, "cpu float32", "cpu float64")
def off_by_one_at_a_blocks_end(p):
    @p.kernel("cpu")
    def _(out, x):
        chunks = cpu.chunks_of(x.size)
        add_up_but_the_last(chunks, x.size, chunks, out[2], cpu.contiguous(x).reshape(-1))
        finish(out, x)


@cpu.chunked
def add_to_what_is_there(chunk, chunks, partials, x):
    for i in range(x.size * chunk // chunks, x.size * (chunk + 1) // chunks):
        partials[chunk] += x[i]


@fault(planted.spread, "buffers")
def stale_workspace(p):
    @p.kernel("cpu")
    def _(out, x):
        chunks = cpu.chunks_of(x.size)
        add_to_what_is_there(chunks, x.size, chunks, out[2], cpu.contiguous(x).reshape(-1))
        finish(out, x)


@cpu.chunked
def add_in_float32(chunk, chunks, places, x):
    total = np.float32(0.0)
    for i in range(x.size * chunk // chunks, x.size * (chunk + 1) // chunks):
        total += np.float32(x[i])
    place = chunk % places.size
    places[place] = np.float32(np.float32(places[place]) + total)


@fault(planted.spread, "threads")
def chunks_that_share_a_place(p):
    @p.kernel("cpu")
    def _(out, x):
        chunks = cpu.chunks_of(x.size)
        out[2].fill(0.0)
        add_in_float32(chunks, 0, chunks, out[2][:1], cpu.contiguous(x).reshape(-1))
        finish(out, x)


@fault(planted.spread, "threads")
def as_many_chunks_as_threads(p):
    if numba.get_num_threads() == 1:
        pytest.skip("one thread alone can't show it")

    @p.kernel("cpu")
    def _(out, x):
        chunks = numba.get_num_threads() if x.size > 1000 else 1
        out[2].fill(0.0)
        add_in_float32(chunks, 0, chunks, out[2], cpu.contiguous(x).reshape(-1))
        finish(out, x)


@fault(planted.spread, "threads")
def other_numbers_every_time(p):
    rng = np.random.default_rng()

    @p.kernel("cpu")
    def _(out, x):
        one_chunk(out, x)
        out[0][...] *= 1 + np.finfo(x.dtype).eps * rng.integers(0, 3)


def one_chunk(out, x, ddof=1):
    out[2].fill(0.0)
    out[2][0] = x.sum(dtype="float64")
    finish(out, x, ddof)


@pytest.mark.parametrize(("make", "plant", "checks"), FAULTS)
def test_a_planted_fault_is_caught_with_every_seed(make, plant, checks):
    for seed in SEEDS:
        p = make()
        plant(p)
        report = mg.gradcheck.check_primitive(p, seed=seed)
        assert report.verdict == "FAILED", report
        assert checks <= {r.check for r in report.results if r.verdict == "FAILED"}, report
        with pytest.raises(GradientError, match="FAILED"):
            report.require()
