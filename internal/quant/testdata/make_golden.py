#!/usr/bin/env python3
"""Writes golden.json and golden.bin beside itself: what real mlx makes of fixed inputs, on its CPU device.

Run with mlx 0.32.4 and numpy:  python internal/quant/testdata/make_golden.py

golden.bin holds raw bytes; golden.json says which bytes are what, as [offset, length], and which versions wrote them. The inputs are one matrix in each float type: 9
rows of 384 weights, in which every 128 neighbours are of another kind, so that all group sizes see all kinds. Dequantized values and casts are kept as SHA-256.
"""

import hashlib
import json
import pathlib
import platform

import mlx.core as mx
import numpy as np

ROWS, COLS, BLOCK = 9, 384, 128
TYPES = {"F32": mx.float32, "F16": mx.float16, "BF16": mx.bfloat16}
SCHEMES = [("affine", bits, group) for bits in (1, 2, 3, 4, 5, 6, 8) for group in (32, 64, 128)]
SCHEMES += [("mxfp4", 4, 32), ("mxfp8", 8, 32), ("nvfp4", 4, 16)]


def blocks(rng):
    """Yields 27 blocks of 128 float64 values; rounding to the float types comes later."""
    n, sign = BLOCK, lambda: rng.choice([-1.0, 1.0], BLOCK)
    for sigma in (0.02, 1.0, 30.0, 1e-4, 1e-7, 3e-8):
        yield rng.normal(0, sigma, n)
    yield np.zeros(n)
    yield 0.0 * sign()  # zeros of both signs
    yield np.where(rng.random(n) < 0.5, 0.0 * sign(), rng.random(n))
    yield np.where(rng.random(n) < 0.5, 0.0 * sign(), -rng.random(n))
    yield np.full(n, 0.3)
    yield np.full(n, -1.7e33)  # the scale is 0 here: edge/eps is infinite in float32
    yield 0.5 + rng.random(n)
    yield -0.5 - rng.random(n)
    yield np.where(np.arange(n) % 16 == 0, 0.75, np.where(np.arange(n) % 16 == 5, -0.75, rng.normal(0, 0.1, n)))
    yield rng.integers(-15, 16, n) * 0.0625  # halves of steps
    yield rng.integers(-300, 900, n) * 0.00390625
    yield 1e-7 * rng.integers(-2, 3, n) / 4  # around eps
    yield rng.integers(-1024, 1025, n) * 2.0**-24  # subnormal F16
    yield rng.integers(-(2**20), 2**20, n) * 2.0**-149  # subnormal F32
    yield np.where(np.arange(n) % 16 == 0, 3e38, np.where(np.arange(n) % 16 == 3, -3.2e38, 1e38))  # the range overflows
    yield sign() * 2.0 ** rng.uniform(-40, 15, n)  # many sizes
    yield sign() * np.resize([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5, 6], n) * 0.125  # ties of E2M1
    yield sign() * np.resize([448, 1.0625, 1.1875, 0.00390625, 0.0009765625, 0.0029296875, 17, 19, 272, 432], n)  # ties of E4M3
    yield sign() * np.resize([6.0, 1.5, 0.7, 5.999], n) * np.repeat(2.0 ** np.arange(-4, 4), 16)
    yield sign() * np.resize([448.0, 15.5, 0.07, 447.9], n) * np.repeat(2.0 ** np.arange(-131, -123), 16)  # smallest scales
    yield sign() * np.resize([2688.0, 2689.0, 3000.0, 1.0], n)  # the largest E4M3 scale


def as_type(values, dtype):
    """Rounds to an mlx type; what becomes infinite is replaced by 60000."""
    a = np.array(mx.array(values.astype(np.float32)).astype(dtype).astype(mx.float32))
    a = np.where(np.isfinite(a), a, np.copysign(60000, a)).astype(np.float32)
    return mx.array(a).astype(dtype)


def raw(a):
    """The bytes of an mlx array."""
    mx.eval(a)
    return np.array(a.view({1: mx.uint8, 2: mx.uint16, 4: mx.uint32}[a.itemsize])).tobytes()


def cast_inputs(name):
    """All values of a short type; for F32 all signs, exponents and 4 bits of mantissa with lower bits around rounding borders. quant_test.go has the same."""
    if name != "F32":
        return mx.array(np.arange(1 << 16, dtype=np.uint16)).view(TYPES[name])
    lower = [0, 1, 0x0FFF, 0x1000, 0x1001, 0x2000, 0x3000, 0x7FFF, 0x8000, 0x8001, 0xFFFF, 0x18000, 0x17FFF, 0x7FFFF]
    bits = (np.arange(1 << 13, dtype=np.uint32)[:, None] << 19) | np.array(lower, np.uint32)[None, :]
    return mx.array(bits.reshape(-1)).view(mx.float32)


def main():
    mx.set_default_device(mx.cpu)
    data = bytearray()

    def keep(chunk):
        data.extend(chunk)
        return [len(data) - len(chunk), len(chunk)]

    values = np.concatenate(list(blocks(np.random.default_rng(20240624)))).reshape(ROWS, COLS)
    inputs = {name: as_type(values, dtype) for name, dtype in TYPES.items()}
    golden = {
        "made_by": "internal/quant/testdata/make_golden.py",
        "mlx": mx.__version__,
        "numpy": np.__version__,
        "machine": f"{platform.system()} {platform.machine()}",
        "rows": ROWS,
        "cols": COLS,
        "inputs": {name: keep(raw(a)) for name, a in inputs.items()},
        "cases": [],
        "casts": [],
    }
    for mode, bits, group in SCHEMES:
        for name, w in inputs.items():
            how = dict(mode=mode, bits=bits, group_size=group)
            q = mx.quantize(w, **how)
            case = dict(how, dtype=name, weight=keep(raw(q[0])), scales=keep(raw(q[1])), biases=keep(raw(q[2]) if mode == "affine" else b""))
            case["dequantized"] = {to: hashlib.sha256(raw(mx.dequantize(*q, dtype=t, **how))).hexdigest() for to, t in TYPES.items()}
            golden["cases"].append(case)
    for name in TYPES:
        for to, t in TYPES.items():
            out = cast_inputs(name).astype(t)
            golden["casts"].append({"from": name, "to": to, "sha256": hashlib.sha256(raw(out)).hexdigest()})
    here = pathlib.Path(__file__).parent
    (here / "golden.bin").write_bytes(data)
    lines = json.dumps(golden).replace('{"mode"', '\n{"mode"').replace('{"from"', '\n{"from"')
    (here / "golden.json").write_text(lines + "\n")


if __name__ == "__main__":
    main()
