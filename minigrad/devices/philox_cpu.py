"""Kernels that fill buffers with random numbers: Philox 4x32-10 (Salmon et al. 2011) on the CPU.

The state is ``start``, two unsigned 64-bit integers (key, position). Block b of a fill is Philox's four 32-bit words
for the counter (position + b, 0) under that key, so an element depends on the start and its own index alone: any cut
into chunks, and any device, gives the same bits. Elements take their words in order, one or two or four each.
"""

import math

import numpy as np

from minigrad.devices import cpu
from minigrad.devices.cpu_math import log_f32, log_f64

MASK = 0xFFFFFFFF
HALF_PI = math.pi / 2


# The generator. All words travel as uint64, whose vectors multiply without shuffles.


@cpu.jit(inline=True)
def _round(c0, c1, c2, c3, k0, k1, r):
    m, s = np.uint64(MASK), np.uint64(32)
    key0 = (k0 + np.uint64(r) * np.uint64(0x9E3779B9)) & m
    key1 = (k1 + np.uint64(r) * np.uint64(0xBB67AE85)) & m
    p0, p1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
    return (p1 >> s) ^ c1 ^ key0, p1 & m, (p0 >> s) ^ c3 ^ key1, p0 & m


@cpu.jit(inline=True)
def philox(c0, c1, c2, c3, k0, k1):
    """The four words of a counter of four words under a key of two."""
    # Written out: the loops over blocks are vectorized, which another loop inside would prevent.
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1, 0)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1, 1)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1, 2)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1, 3)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1, 4)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1, 5)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1, 6)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1, 7)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1, 8)
    return _round(c0, c1, c2, c3, k0, k1, 9)


@cpu.jit(inline=True)
def _words(key, position):
    m, s, zero = np.uint64(MASK), np.uint64(32), np.uint64(0)
    return philox(position & m, position >> s, zero, zero, key & m, key >> s)


@cpu.jit
def _word(start, i):
    """Word i of a fill: what is left over after the last whole block is filled by it."""
    w0, w1, w2, w3 = _words(start[0], start[1] + np.uint64(i // 4))
    rest = i % 4
    return (w0 if rest == 0 else w1) if rest < 2 else (w2 if rest == 2 else w3)


@cpu.jit(inline=True)
def _joined(low, high):
    return low | (high << np.uint64(32))


@cpu.jit
def _pair(start, i):
    """Pair i of the words of a fill, as one number of 64 bits."""
    return _joined(_word(start, 2 * i), _word(start, 2 * i + 1))


@cpu.chunked
def bits(chunk, chunks, out, start):
    """Fill uint32 `out` with one word each; 64-bit numbers are filled through a view."""
    blocks = out.size // 4
    low, high = chunk * blocks // chunks, (chunk + 1) * blocks // chunks
    o = out[4 * low : 4 * high]
    key, base = start[0], start[1] + np.uint64(low)
    for b in range(high - low):
        w0, w1, w2, w3 = _words(key, base + np.uint64(b))
        o[4 * b] = w0
        o[4 * b + 1] = w1
        o[4 * b + 2] = w2
        o[4 * b + 3] = w3
    if chunk == chunks - 1:
        for i in range(4 * blocks, out.size):
            out[i] = _word(start, i)


# Uniform: low + (high - low)·u with u of 24 or 53 bits, rounded once an operation (no fused multiply-add, which not
# every device has), and kept below high, which the sum could round to.


@cpu.jit(exact=True, inline=True)
def _scaled32(word, low, span, below):
    value = low + span * (np.float32(np.int32(word >> np.uint64(8))) * np.float32(2.0**-24))
    return value if value < below else below


@cpu.jit(exact=True, inline=True)
def _scaled64(pair, low, span, below):
    value = low + span * (np.float64(np.int64(pair >> np.uint64(11))) * 2.0**-53)
    return value if value < below else below


@cpu.chunked
def uniform32(chunk, chunks, out, start, minimum, span, below):
    """Fill float32 `out`, one word each."""
    blocks = out.size // 4
    low, high = chunk * blocks // chunks, (chunk + 1) * blocks // chunks
    o = out[4 * low : 4 * high]
    key, base = start[0], start[1] + np.uint64(low)
    for b in range(high - low):
        w0, w1, w2, w3 = _words(key, base + np.uint64(b))
        o[4 * b] = _scaled32(w0, minimum, span, below)
        o[4 * b + 1] = _scaled32(w1, minimum, span, below)
        o[4 * b + 2] = _scaled32(w2, minimum, span, below)
        o[4 * b + 3] = _scaled32(w3, minimum, span, below)
    if chunk == chunks - 1:
        for i in range(4 * blocks, out.size):
            out[i] = _scaled32(_word(start, i), minimum, span, below)


@cpu.chunked
def uniform64(chunk, chunks, out, start, minimum, span, below):
    """Fill float64 `out`, two words each."""
    blocks = out.size // 2
    low, high = chunk * blocks // chunks, (chunk + 1) * blocks // chunks
    o = out[2 * low : 2 * high]
    key, base = start[0], start[1] + np.uint64(low)
    for b in range(high - low):
        w0, w1, w2, w3 = _words(key, base + np.uint64(b))
        o[2 * b] = _scaled64(_joined(w0, w1), minimum, span, below)
        o[2 * b + 1] = _scaled64(_joined(w2, w3), minimum, span, below)
    if chunk == chunks - 1 and out.size % 2:
        out[2 * blocks] = _scaled64(_pair(start, 2 * blocks), minimum, span, below)


# Normal, after Box and Muller (1958): r = √(−2 log u) and a turn t give r·cos 2πt and r·sin 2πt. The turn is cut into
# quarters in integers, exactly, so that sine and cosine are needed on [−π/4, π/4] alone, where their Taylor series
# are short. Within 3 ulp.


@cpu.jit(exact=True, inline=True)
def _normals32(word0, word1, mean, std):
    f = np.float32
    u = f(np.int32(word0 >> np.uint64(1))) * f(2.0**-31) + f(2.0**-32)
    r = math.sqrt(f(-2.0) * log_f32(u))
    quarter = (np.int32(word1 >> np.uint64(29)) + np.int32(1)) >> np.int32(1)  # the nearest of 0, ¼, ½, ¾, 1
    x = f(np.int32(np.int64(word1) - (np.int64(quarter) << 30))) * f(HALF_PI * 2.0**-30)
    z = x * x
    s = f(-1 / 5040) + z * f(1 / 362880)
    s = x + x * z * (f(-1 / 6) + z * (f(1 / 120) + z * s))
    c = f(1 / 40320) + z * f(-1 / 3628800)
    c = f(1.0) + z * (f(-1 / 2) + z * (f(1 / 24) + z * (f(-1 / 720) + z * c)))
    odd = (quarter & 1) != 0
    cosine, sine = (s if odd else c), (c if odd else s)
    cosine = -cosine if ((quarter + 1) & 2) != 0 else cosine
    sine = -sine if (quarter & 2) != 0 else sine
    return mean + std * (r * cosine), mean + std * (r * sine)


@cpu.jit(exact=True, inline=True)
def _normals64(pair0, pair1, mean, std):
    u = np.float64(np.int64(pair0 >> np.uint64(11)) + 1) * 2.0**-53
    r = math.sqrt(-2.0 * log_f64(u))
    quarter = (np.int64(pair1 >> np.uint64(61)) + 1) >> 1
    x = np.float64(np.int64(pair1 - (np.uint64(quarter) << np.uint64(62)))) * (HALF_PI * 2.0**-62)
    z = x * x
    s = -1 / 1307674368000 + z * (1 / 355687428096000)
    s = 1 / 362880 + z * (-1 / 39916800 + z * (1 / 6227020800 + z * s))
    s = x + x * z * (-1 / 6 + z * (1 / 120 + z * (-1 / 5040 + z * s)))
    c = 1 / 20922789888000 + z * (-1 / 6402373705728000)
    c = -1 / 3628800 + z * (1 / 479001600 + z * (-1 / 87178291200 + z * c))
    c = 1.0 + z * (-1 / 2 + z * (1 / 24 + z * (-1 / 720 + z * (1 / 40320 + z * c))))
    odd = (quarter & 1) != 0
    cosine, sine = (s if odd else c), (c if odd else s)
    cosine = -cosine if ((quarter + 1) & 2) != 0 else cosine
    sine = -sine if (quarter & 2) != 0 else sine
    return mean + std * (r * cosine), mean + std * (r * sine)


@cpu.chunked
def normal32(chunk, chunks, out, start, mean, std):
    """Fill float32 `out`, two words for two."""
    blocks = out.size // 4
    low, high = chunk * blocks // chunks, (chunk + 1) * blocks // chunks
    o = out[4 * low : 4 * high]
    key, base = start[0], start[1] + np.uint64(low)
    for b in range(high - low):
        w0, w1, w2, w3 = _words(key, base + np.uint64(b))
        o[4 * b], o[4 * b + 1] = _normals32(w0, w1, mean, std)
        o[4 * b + 2], o[4 * b + 3] = _normals32(w2, w3, mean, std)
    if chunk == chunks - 1:
        for i in range(4 * blocks, out.size):
            first, second = _normals32(_word(start, i // 2 * 2), _word(start, i // 2 * 2 + 1), mean, std)
            out[i] = second if i % 2 else first


@cpu.chunked
def normal64(chunk, chunks, out, start, mean, std):
    """Fill float64 `out`, four words for two."""
    blocks = out.size // 2
    low, high = chunk * blocks // chunks, (chunk + 1) * blocks // chunks
    o = out[2 * low : 2 * high]
    key, base = start[0], start[1] + np.uint64(low)
    for b in range(high - low):
        w0, w1, w2, w3 = _words(key, base + np.uint64(b))
        o[2 * b], o[2 * b + 1] = _normals64(_joined(w0, w1), _joined(w2, w3), mean, std)
    if chunk == chunks - 1 and out.size % 2:
        i = 2 * blocks
        out[i], _ = _normals64(_pair(start, i), _pair(start, i + 1), mean, std)


# Truncated normal: the normal quantile, by Wichura's algorithm AS 241 (1988; 16 digits), of a uniform between the
# probabilities of the limits. Always computed in float64.

# fmt: off
CENTRE_P = (3.3871328727963665, 133.14166789178438, 1971.5909503065513, 13731.69376550946,
            45921.95393154987, 67265.7709270087, 33430.57558358813, 2509.0809287301227)
CENTRE_Q = (1.0, 42.31333070160091, 687.1870074920579, 5394.196021424751,
            21213.794301586597, 39307.89580009271, 28729.085735721943, 5226.495278852854)
MIDDLE_P = (1.4234371107496835, 4.630337846156546, 5.769497221460691, 3.6478483247632045,
            1.2704582524523684, 0.2417807251774506, 0.022723844989269184, 0.0007745450142783414)
MIDDLE_Q = (1.0, 2.053191626637759, 1.6763848301838038, 0.6897673349851,
            0.14810397642748008, 0.015198666563616457, 0.0005475938084995345, 1.0507500716444169e-09)
TAIL_P = (6.657904643501103, 5.463784911164114, 1.7848265399172913, 0.29656057182850487,
          0.026532189526576124, 0.0012426609473880784, 2.7115555687434876e-05, 2.0103343992922881e-07)
TAIL_Q = (1.0, 0.599832206555888, 0.1369298809227358, 0.014875361290850615,
          0.0007868691311456133, 1.8463183175100548e-05, 1.421511758316446e-07, 2.0442631033899397e-15)
# fmt: on


@cpu.jit(exact=True, inline=True)
def _ratio(p, q, x):
    above, below = p[7], q[7]
    for k in range(6, -1, -1):
        above = above * x + p[k]
        below = below * x + q[k]
    return above / below


@cpu.jit(exact=True, inline=True)
def quantile(p):
    """The z with Φ(z) = p, for p in (0, 1). All three ranges are computed, which vectorizes, and one is taken."""
    q = p - 0.5
    centre = q * _ratio(CENTRE_P, CENTRE_Q, 0.180625 - q * q)
    r = math.sqrt(-log_f64(p if q < 0 else 1 - p))
    middle, tail = _ratio(MIDDLE_P, MIDDLE_Q, r - 1.6), _ratio(TAIL_P, TAIL_Q, r - 5)
    z = middle if r <= 5 else tail
    z = -z if q < 0 else z
    return centre if abs(q) <= 0.425 else z


@cpu.jit(exact=True, inline=True)
def _truncated(pair, below, between, mean, std, minimum, maximum):
    u = np.float64(np.int64(pair >> np.uint64(12))) * 2.0**-52 + 2.0**-53
    x = mean + std * quantile(below + between * u)
    x = minimum if x < minimum else x
    return maximum if x > maximum else x


@cpu.chunked
def truncated(chunk, chunks, out, start, below, between, mean, std, minimum, maximum):
    """Fill `out`, two words each: mean + std·Φ⁻¹(below + between·u), kept in [minimum, maximum]."""
    blocks = out.size // 2
    low, high = chunk * blocks // chunks, (chunk + 1) * blocks // chunks
    o = out[2 * low : 2 * high]
    key, base = start[0], start[1] + np.uint64(low)
    for b in range(high - low):
        w0, w1, w2, w3 = _words(key, base + np.uint64(b))
        o[2 * b] = _truncated(_joined(w0, w1), below, between, mean, std, minimum, maximum)
        o[2 * b + 1] = _truncated(_joined(w2, w3), below, between, mean, std, minimum, maximum)
    if chunk == chunks - 1 and out.size % 2:
        pair = _pair(start, 2 * blocks)
        out[2 * blocks] = _truncated(pair, below, between, mean, std, minimum, maximum)


# Integers: low + ⌊range·u⌋ with u of 128 bits, one block each, so that no value is favoured by more than 2⁻⁶⁴.


@cpu.jit(inline=True)
def _high_product(a, b):
    """The upper 64 bits of a·b."""
    m, s = np.uint64(MASK), np.uint64(32)
    a0, a1, b0, b1 = a & m, a >> s, b & m, b >> s
    middle = a1 * b0 + ((a0 * b0) >> s)
    other = a0 * b1 + (middle & m)
    return a1 * b1 + (middle >> s) + (other >> s)


@cpu.jit(inline=True)
def _integer(w0, w1, w2, w3, minimum, span):
    upper = _joined(w0, w1)
    low_part = upper * span
    total = low_part + _high_product(_joined(w2, w3), span)
    picked = _high_product(upper, span) + (np.uint64(1) if total < low_part else np.uint64(0))
    return minimum + (upper if span == np.uint64(0) else picked)


@cpu.chunked
def integers(chunk, chunks, out, start, minimum, span):
    """Fill integer `out` from `minimum` (its two's complement) on; a span of 0 stands for 2⁶⁴."""
    low, high = chunk * out.size // chunks, (chunk + 1) * out.size // chunks
    o = out[low:high]
    key, base = start[0], start[1] + np.uint64(low)
    for i in range(o.size):
        w0, w1, w2, w3 = _words(key, base + np.uint64(i))
        o[i] = _integer(w0, w1, w2, w3, minimum, span)


@cpu.jit
def permute(out, start):
    """Fill `out` with 0 … n − 1 in random order: Fisher and Yates's shuffle, from the inside out, two words a step."""
    for b in range((out.size + 1) // 2):
        w0, w1, w2, w3 = _words(start[0], start[1] + np.uint64(b))
        i = 2 * b
        j = np.int64(_high_product(_joined(w0, w1), np.uint64(i + 1)))
        out[i] = out[j]
        out[j] = i
        if i + 1 < out.size:
            j = np.int64(_high_product(_joined(w2, w3), np.uint64(i + 2)))
            out[i + 1] = out[j]
            out[j] = i + 1


# Masks: a word is below `threshold`, a probability in units of 2⁻³², or it is not.


@cpu.chunked
def bernoulli(chunk, chunks, out, start, threshold):
    """Fill boolean `out`, one word each: True where the word is below the threshold."""
    blocks = out.size // 4
    low, high = chunk * blocks // chunks, (chunk + 1) * blocks // chunks
    o = out[4 * low : 4 * high]
    key, base = start[0], start[1] + np.uint64(low)
    for b in range(high - low):
        w0, w1, w2, w3 = _words(key, base + np.uint64(b))
        o[4 * b] = w0 < threshold
        o[4 * b + 1] = w1 < threshold
        o[4 * b + 2] = w2 < threshold
        o[4 * b + 3] = w3 < threshold
    if chunk == chunks - 1:
        for i in range(4 * blocks, out.size):
            out[i] = _word(start, i) < threshold


@cpu.chunked
def dropout(chunk, chunks, out, x, start, threshold, scale):
    """Fill float `out` with x·scale where kept, else 0; one word each."""
    blocks = out.size // 4
    low, high = chunk * blocks // chunks, (chunk + 1) * blocks // chunks
    o, v = out[4 * low : 4 * high], x[4 * low : 4 * high]
    key, base = start[0], start[1] + np.uint64(low)
    zero = scale - scale
    for b in range(high - low):
        w0, w1, w2, w3 = _words(key, base + np.uint64(b))
        o[4 * b] = v[4 * b] * scale if w0 >= threshold else zero
        o[4 * b + 1] = v[4 * b + 1] * scale if w1 >= threshold else zero
        o[4 * b + 2] = v[4 * b + 2] * scale if w2 >= threshold else zero
        o[4 * b + 3] = v[4 * b + 3] * scale if w3 >= threshold else zero
    if chunk == chunks - 1:
        for i in range(4 * blocks, out.size):
            out[i] = x[i] * scale if _word(start, i) >= threshold else zero
