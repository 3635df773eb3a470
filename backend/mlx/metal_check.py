#!/usr/bin/env python3
"""Shows how the quantized bytes of MLX's GPU backend differ from those of its CPU backend.

    python metal_check.py [--json FILE] [--examples N]

It needs mlx and numpy, nothing else, no network, and about ten seconds. It quantizes fixed inputs (the same on every machine: they are made with integer arithmetic) for
every mode, width, group size and float type

  - on MLX's CPU device, and compares the bytes with the rule of mlxbuild's profile "mlx-cpu/0.32.4", written in numpy below;
  - on MLX's GPU device, where there is one, and compares the bytes with the CPU's and with the rule that Metal's kernels should follow by their source.

It prints what differs and writes metal_golden.json: versions, machine, inputs and the bytes that were seen. That file is what a rounding profile for Metal would be
made from and tested with. The exit status is 1 when the CPU's bytes are not those of the profile.
"""

import argparse
import base64
import hashlib
import json
import platform
import subprocess
import sys
import zlib

import mlx.core as mx
import numpy as np

PROFILE = "mlx-cpu/0.32.4"
TYPES = {"F32": mx.float32, "F16": mx.float16, "BF16": mx.bfloat16}
SCHEMES = [("affine", bits, group) for bits in (1, 2, 3, 4, 5, 6, 8) for group in (32, 64, 128)]
SCHEMES += [("mxfp4", 4, 32), ("mxfp8", 8, 32), ("nvfp4", 4, 16)]
PARTS = ("codes", "scales", "biases")

# ---------------------------------------------------------------- inputs


class Random:
    """SplitMix64: the same numbers on every machine and with every numpy."""

    def __init__(self, seed):
        self.seed, self.at = np.uint64(seed), 0

    def bits(self, n):
        i = np.arange(self.at + 1, self.at + n + 1, dtype=np.uint64)
        self.at += n
        z = self.seed + i * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))

    def uniform(self, n):
        """Multiples of 2^-24 in [0, 1)."""
        return (self.bits(n) >> np.uint64(40)).astype(np.float64) * 2.0**-24

    def bell(self, n):
        """Near enough to normal(0, 1) for weights: the sum of 12 uniform values, less 6. The sum is exact, so its order does not matter."""
        return self.uniform(12 * n).reshape(12, n).sum(axis=0) - 6.0

    def integers(self, low, high, n):
        return low + (self.bits(n) % np.uint64(high - low + 1)).astype(np.int64)

    def sign(self, n):
        return 1.0 - 2.0 * self.integers(0, 1, n)


def corners():
    """27 blocks of 128 weights, each of one kind: (names, float64 array of 9 x 384)."""
    r, n = Random(1), 128
    i = np.arange(n)
    zeros = lambda: np.copysign(0.0, r.sign(n))
    blocks = {
        "bell 0.02": r.bell(n) * 0.02,
        "bell 1": r.bell(n),
        "bell 30": r.bell(n) * 30,
        "bell 1e-4": r.bell(n) * 1e-4,
        "bell 1e-7 (around eps)": r.bell(n) * 1e-7,
        "steps of eps/4": 1e-7 * r.integers(-2, 2, n) / 4,
        "zeros": np.zeros(n),
        "zeros of both signs": zeros(),
        "zeros and positive": np.where(r.uniform(n) < 0.5, zeros(), r.uniform(n)),
        "zeros and negative": np.where(r.uniform(n) < 0.5, zeros(), -r.uniform(n)),
        "constant 0.3": np.full(n, 0.3),
        "constant -1.7e33": np.full(n, -1.7e33),
        "all positive": 0.5 + r.uniform(n),
        "all negative": -0.5 - r.uniform(n),
        "edges of equal size": np.where(i % 16 == 0, 0.75, np.where(i % 16 == 5, -0.75, r.bell(n) * 0.1)),
        "halves of a step, 4 bits": r.integers(-15, 15, n) * 0.0625,
        "halves of a step, many": r.integers(-300, 900, n) * 0.00390625,
        "subnormal F16": r.integers(-1024, 1024, n) * 2.0**-24,
        "subnormal F32": r.integers(-(2**20), 2**20, n) * 2.0**-149,
        "range overflows F32": np.where(i % 16 == 0, 3e38, np.where(i % 16 == 3, -3.2e38, 1e38)),
        "many sizes": r.sign(n) * (1 + r.uniform(n)) * 2.0 ** r.integers(-40, 14, n),
        "ties of E2M1": r.sign(n) * np.resize([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5, 6], n) * 0.125,
        "ties of E4M3": r.sign(n) * np.resize([448, 1.0625, 1.1875, 0.00390625, 0.0009765625, 0.0029296875, 17, 19, 272, 432], n),
        "largest is 6 x 2^k": r.sign(n) * np.resize([6.0, 1.5, 0.7, 5.999], n) * np.repeat(2.0 ** np.arange(-4, 4), 16),
        "largest just above 6 x 2^k": r.sign(n) * np.resize([6.05, 1.5, 0.7, 6.0], n) * np.repeat(2.0 ** np.arange(-4, 4), 16),
        "smallest scales": r.sign(n) * np.resize([448.0, 15.5, 0.07, 447.9], n) * np.repeat(2.0 ** np.arange(-131, -123), 16),
        "largest E4M3 scale": r.sign(n) * np.resize([2688.0, 2689.0, 3000.0, 1.0], n),
    }
    return list(blocks), np.concatenate(list(blocks.values())).reshape(9, 384)


def bulk():
    """262,144 weights as a model has them."""
    return Random(2).bell(256 * 1024).reshape(256, 1024) * 0.02


def to_bits(values, name):
    """The bits of float64 values rounded to a float type, by way of float32; what becomes infinite is replaced by 60000."""
    with np.errstate(over="ignore"):
        x = rounded(values.astype(np.float32), name)
        x = np.where(np.isfinite(x), x, np.copysign(np.float32(60000), x)).astype(np.float32)
        x = rounded(x, name)
    if name == "F32":
        return x.view(np.uint32)
    return x.astype(np.float16).view(np.uint16) if name == "F16" else (x.view(np.uint32) >> 16).astype(np.uint16)


def widened(bits, name):
    """float32 values of bits."""
    if name == "F32":
        return bits.view(np.float32)
    return bits.view(np.float16).astype(np.float32) if name == "F16" else (bits.astype(np.uint32) << 16).view(np.float32)


# ---------------------------------------------------------------- the rules, in numpy


def rounded(x, name):
    """float32 values rounded to a float type, ties to even, and widened again."""
    if name == "F32":
        return x
    if name == "F16":
        return x.astype(np.float16).astype(np.float32)
    u = np.ascontiguousarray(x).view(np.uint32)
    return ((u + np.uint32(0x7FFF) + ((u >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


def away(x):
    """Rounds to the nearest integer, ties away from zero."""
    whole = np.trunc(x)
    return np.where(np.abs(x - whole) == 0.5, whole + np.copysign(np.float32(1), x), np.rint(x)).astype(np.float32)


def affine(w, bits, group, name, device):
    """Codes, scales and biases of MLX's affine mode. w is float32."""
    f = np.float32
    nearest = np.rint if device == "cpu" else away
    n, eps = f(2**bits - 1), f(1e-7)
    g = w.reshape(-1, group)
    low, high = g.min(axis=1, keepdims=True), g.max(axis=1, keepdims=True)
    if device != "cpu":
        high = np.maximum(high, f(0))
    if bits == 1:
        first = np.take_along_axis(g, (g == low).argmax(axis=1)[:, None], axis=1)  # of +0 and -0 the first
        scale, bias = np.maximum(high - low, eps), first
    else:
        scale = np.maximum((high - low) / n, eps)
        below = np.abs(low) > np.abs(high)
        scale, edge = np.where(below, scale, -scale), np.where(below, low, high)
        steps = nearest(edge / scale)
        scale = np.where(steps != 0, edge / np.where(steps != 0, steps, f(1)), scale)
        bias = np.where(steps != 0, edge, f(0))
    q = nearest((g - bias) / scale)
    codes = np.where(q > 0, np.minimum(q, n), 0).astype(np.uint8)
    return codes.reshape(w.shape), half_bits(scale, name), half_bits(bias, name)


def half_bits(x, name):
    x = rounded(x.astype(np.float32), name).reshape(-1)
    if name == "F32":
        return x.view(np.uint32)
    return x.astype(np.float16).view(np.uint16) if name == "F16" else (x.view(np.uint32) >> 16).astype(np.uint16)


def to_e4m3(x):
    """Bytes of E4M3, ties to even, at most 448, sign of zero kept."""
    u = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32)
    a = u & np.uint32(0x7FFFFFFF)
    small = np.rint(np.minimum(a.view(np.float32), np.float32(1)) * np.float32(512)).astype(np.uint32)
    normal = (a - np.uint32(120 << 23) + np.uint32(0x7FFFF) + ((a >> 20) & 1)) >> 20
    code = np.where(a >= np.uint32(0x43E00000), 0x7E, np.where(a < np.uint32(121 << 23), small, normal))
    return (code.astype(np.uint32) | (u >> 24) & 0x80).astype(np.uint8)


def from_e4m3(b):
    exponent, mantissa = (b >> 3 & 15).astype(np.int32), (b & 7).astype(np.float64)
    return np.where(exponent == 0, mantissa * 2.0**-9, (8 + mantissa) * 2.0 ** (exponent - 10)).astype(np.float32)


E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


def micro(w, mode, bits, group, name, device):
    """Codes and scales of MLX's mx and nv modes. w is float32."""
    f = np.float32
    g = w.reshape(-1, group)
    a = np.abs(g).max(axis=1, keepdims=True) / f(6 if bits == 4 else 448)
    if device == "cpu":
        a = rounded(a, name)
    if mode == "nvfp4":
        stored = to_e4m3(a)
        scale = from_e4m3(stored)
    else:
        fraction, n = np.frexp(a.astype(np.float64))
        n = np.where(a == 0, 0 if device == "cpu" else -127, n - (fraction == 0.5))
        if device != "cpu":
            n = np.clip(n, -127, 127)
        stored = (n + 127).astype(np.uint8)
        scale = np.ldexp(1.0, n).astype(f)
    if device == "cpu":
        v = rounded(g / rounded(scale, name), name)
    else:
        v = g * np.where(scale == 0, f(0), f(1) / np.where(scale == 0, f(1), scale))
    if bits == 8:
        return to_e4m3(v).reshape(w.shape), stored.reshape(-1)
    if device == "cpu":  # the first of the nearest values
        distance = np.abs(v[..., None] - E2M1)
        codes = np.where(np.isfinite(v), np.argmin(np.where(np.isnan(distance), f(np.inf), distance), axis=-1), 0)
    else:
        x = np.abs(v)
        codes = sum((x > b).astype(np.uint8) for b in (0.25, 1.25, 2.5, 5)) + sum((x >= b).astype(np.uint8) for b in (0.75, 1.75, 3.5))
        codes |= np.where(np.signbit(v), 8, 0).astype(np.uint8)
    return codes.astype(np.uint8).reshape(w.shape), stored.reshape(-1)


def rule(w, mode, bits, group, name, device):
    with np.errstate(all="ignore"):
        return affine(w, bits, group, name, device) if mode == "affine" else micro(w, mode, bits, group, name, device)


# ---------------------------------------------------------------- MLX


def quantized(w, mode, bits, group, device):
    """What MLX makes of w on a device: numpy arrays (words, scales, biases), raw bits."""
    q = mx.quantize(w, mode=mode, bits=bits, group_size=group, stream=device)
    mx.eval(*q)
    as_bits = {1: mx.uint8, 2: mx.uint16, 4: mx.uint32}
    return [np.array(a.view(as_bits[a.itemsize], stream=mx.cpu)) for a in q]


def unpacked(words, bits):
    """The codes in rows of words: one bit stream per row, lowest bit first."""
    stream = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=-1, bitorder="little")
    return np.packbits(stream.reshape(words.shape[0], -1, bits), axis=-1, bitorder="little")[..., 0]


def gpu_name():
    """Names the GPU backend that can be used: metal, cuda or None."""
    for name in ("metal", "cuda"):
        if hasattr(mx, name) and getattr(mx, name).is_available():
            return name
    return None


def machine():
    def said(*command):
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()
        except OSError:
            return ""

    mac = platform.mac_ver()[0]
    info = {
        "mlx": mx.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "system": f"macOS {mac} ({said('sw_vers', '-buildVersion')})" if mac else f"{platform.system()} {platform.release()}",
        "chip": (said("sysctl", "-n", "machdep.cpu.brand_string") if mac else "") or platform.machine(),
        "gpu": gpu_name(),
    }
    if info["gpu"] and hasattr(mx, "device_info"):
        info["gpu_info"] = {key: str(value) for key, value in mx.device_info(mx.gpu).items()}
    return info


# ---------------------------------------------------------------- the check


def counted(got, want):
    """For each part how many values differ, and of how many: {"codes": [3, 4096], ...}."""
    return {part: [int((g != w).sum()), int(g.size)] for part, g, w in zip(PARTS, got, want)}


def same(counts):
    return all(differ == 0 for differ, _ in counts.values())


def described(counts):
    return ", ".join(f"{part} {differ} of {of}" for part, (differ, of) in counts.items())


def packed(arrays):
    """Arrays as one text: zlib, base64."""
    return base64.b64encode(zlib.compress(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays), 9)).decode()


def digest(arrays):
    return [hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest() for a in arrays]


def parts_of(q, bits):
    """Codes, scales and biases, flat, of MLX's words, scales and biases."""
    return [unpacked(q[0], bits).reshape(-1)] + [a.reshape(-1) for a in q[1:]]


def first_examples(got, want, w, group, names, limit):
    """The first differing values as text, and the kinds of input that have any."""
    lines, kinds = [], {}
    for part, g, c in zip(PARTS, got, want):
        for at in np.nonzero(g != c)[0]:
            i = int(at) * (1 if part == "codes" else group)
            kind = names[i // 128] if names else "bulk"
            kinds.setdefault(kind, {}).setdefault(part, 0)
            kinds[kind][part] += 1
            if sum(line.startswith(part) for line in lines) < limit:
                what = f"weight {w.reshape(-1)[i]!s}" if part == "codes" else "group"
                digits = 2 * g.itemsize
                lines.append(f"{part}[{int(at)}]: {what}, CPU 0x{int(c[at]):0{digits}x}, GPU 0x{int(g[at]):0{digits}x} ({kind})")
    return lines, kinds


class Report:
    """Prints, counts, and collects what goes into the file."""

    def __init__(self, examples):
        self.examples, self.cases, self.cpu_wrong, self.gpu_wrong, self.unexplained = examples, [], 0, 0, 0

    def check(self, scheme, name, matrix, names, bits_in, gpu):
        mode, bits, group = scheme
        w = mx.array(bits_in).view(TYPES[name], stream=mx.cpu)
        case = {"mode": mode, "bits": bits, "group_size": group, "dtype": name, "matrix": matrix}
        label = f"{mode:6} {bits} bits group {group:3} {name:4} {matrix:7}"
        try:
            words = quantized(w, mode, bits, group, mx.cpu)
        except (ValueError, RuntimeError) as err:
            print(f"{label}: not in this mlx ({err})")
            return
        values = widened(bits_in, name)
        cpu = parts_of(words, bits)
        wanted = [np.asarray(a).reshape(-1) for a in rule(values, mode, bits, group, name, "cpu")]
        against_rule = counted(cpu, wanted)
        case["cpu_sha256"], case["cpu_against_rule"] = digest(words), against_rule
        if not same(against_rule):
            self.cpu_wrong += 1
            print(f"{label}: the CPU does not follow {PROFILE}: {described(against_rule)}")
        if gpu:
            self.compare(case, label, quantized(w, mode, bits, group, mx.gpu), cpu, rule(values, mode, bits, group, name, gpu), values, names)
        self.cases.append(case)

    def compare(self, case, label, words, cpu, predicted, values, names):
        got = parts_of(words, case["bits"])
        against_cpu, against_rule = counted(got, cpu), counted(got, [np.asarray(a).reshape(-1) for a in predicted])
        lines, kinds = first_examples(got, cpu, values, case["group_size"], names, self.examples)
        case.update(gpu_sha256=digest(words), gpu_against_cpu=against_cpu, gpu_against_predicted_rule=against_rule, gpu_examples=lines, gpu_kinds=kinds)
        if case["matrix"] == "corners":
            case["gpu"] = packed(words)
        self.gpu_wrong += not same(against_cpu)
        self.unexplained += not same(against_rule)
        if same(against_cpu):
            print(f"{label}: same bytes")
            return
        print(f"{label}: differ: {described(against_cpu)}; from the predicted rule: {described(against_rule)}")
        for line in lines:
            print(f"    {line}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", default="metal_golden.json", help="file to write (default: %(default)s)")
    parser.add_argument("--examples", type=int, default=2, help="examples of each part to print where bytes differ (default: %(default)s)")
    args = parser.parse_args()

    info = machine()
    for key in ("mlx", "numpy", "python", "system", "chip", "gpu"):
        print(f"{key + ':':8} {info[key] or 'none'}")
    if not PROFILE.endswith("/" + info["mlx"]):
        print(f"note: the rule checked here is that of {PROFILE}; another mlx may round differently")
    gpu = info["gpu"]
    if not gpu:
        print("no GPU that MLX can use: only the CPU's bytes are checked")
    print()

    names, values = corners()
    matrices = {"corners": (names, values), "bulk": (None, bulk())}
    report = Report(args.examples)
    inputs = {}
    for matrix, (kinds, values) in matrices.items():
        for name in TYPES:
            bits_in = to_bits(values, name)
            inputs[f"{matrix} {name}"] = {"shape": list(bits_in.shape), "sha256": digest([bits_in])[0]}
            if matrix == "corners":
                inputs[f"{matrix} {name}"]["data"] = packed([bits_in])
            for scheme in SCHEMES:
                report.check(scheme, name, matrix, kinds, bits_in, gpu)

    made = "backend/mlx/metal_check.py 1"
    data = {"made_by": made, "profile": PROFILE, "machine": info, "kinds": names, "inputs": inputs, "cases": report.cases}
    with open(args.json, "w") as out:
        out.write(json.dumps(data).replace('{"mode"', '\n{"mode"') + "\n")

    total = len(report.cases)
    print(f"CPU: {total - report.cpu_wrong} of {total} cases follow {PROFILE}")
    if gpu:
        print(f"GPU: {total - report.gpu_wrong} of {total} cases have the CPU's bytes; {total - report.unexplained} of {total} follow the rule predicted for Metal")
    print(f"wrote {args.json}" + (": please send it to the project" if gpu else ""))
    return 1 if report.cpu_wrong else 0


if __name__ == "__main__":
    sys.exit(main())
