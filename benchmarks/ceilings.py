"""Measures what this machine can do at most: matrix products and memory traffic.

    python -m benchmarks.ceilings

Prints one JSON object. Products are those of a large square matrix and of MiniLM's layers; the
fastest is the ceiling of its precision. Memory is read (which is what generating does with
weights), copied, and read and written by a triad (a = b + s * c), in arrays that no cache holds.
Everything is repeated and the best counts: a ceiling is what the machine can do, not what it does
on average.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from benchmarks.measure import run_measured

# Rows, inner and columns of a product.
SHAPES = {
    "square 2048": (2048, 2048, 2048),
    "MiniLM 1024x384x1536": (1024, 384, 1536),
    "MiniLM 1024x1536x384": (1024, 1536, 384),
    "MiniLM 1024x384x384": (1024, 384, 384),
}
PRECISIONS = ("float32", "bfloat16")


def measure_ceilings() -> dict:
    """Runs this module in a process of its own.

    Returns:
        `float32` and `bfloat16`, operations a second; `bandwidth`, bytes a second; and what of
        each shape and each kind of traffic was measured.
    """
    measured = run_measured([sys.executable, "-m", "benchmarks.ceilings"])
    found = json.loads(measured.stdout.splitlines()[-1])
    return {**found, "cores_of_others": measured.cores_of_others}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ceilings", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--seconds", type=float, default=0.4, help="for each kind of work")
    options = parser.parse_args()
    print(json.dumps(ceilings(options.seconds)))


def ceilings(seconds: float) -> dict:
    products = matrix_products(seconds)
    traffic = memory_traffic(seconds)
    best = {name: max(rates.values()) for name, rates in products.items()}
    return {
        **best,
        "bandwidth": max(traffic.values()),
        "matrix_products": products,
        "memory_traffic": traffic,
    }


def matrix_products(seconds: float) -> dict[str, dict[str, float]]:
    """Returns operations a second of each precision and shape."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf  # here: the variable must be set before

    found = {}
    for precision in PRECISIONS:
        found[precision] = {}
        for name, (rows, inner, columns) in SHAPES.items():
            left = tf.cast(tf.random.normal((rows, inner)), precision)
            right = tf.cast(tf.random.normal((inner, columns)), precision)
            product = tf.function(tf.matmul)
            taken = fastest(partial(product, left, right), seconds)
            found[precision][name] = 2 * rows * inner * columns / taken
    return found


def memory_traffic(seconds: float, size: int = 2**25) -> dict[str, float]:
    """Returns bytes a second that all cores read and write together, on arrays of float32."""
    cores = os.cpu_count()
    arrays = [np.ones((cores, size), "float32") for _ in range(3)]
    scale = np.float32(1.5)

    def triad(core: int) -> None:
        # In pieces that stay in the cache between the two passes that NumPy makes of it.
        a, b, c = (array[core] for array in arrays)
        for start in range(0, size, 2**16):
            piece = slice(start, start + 2**16)
            np.multiply(c[piece], scale, out=a[piece])
            np.add(a[piece], b[piece], out=a[piece])

    def copy(core: int) -> None:
        np.copyto(arrays[0][core], arrays[1][core])

    def read(core: int) -> None:
        arrays[1][core].max()

    with ThreadPoolExecutor(cores) as pool:
        each = cores * size * 4
        return {
            "read": each / fastest(lambda: list(pool.map(read, range(cores))), seconds),
            "copy": 2 * each / fastest(lambda: list(pool.map(copy, range(cores))), seconds),
            "triad": 3 * each / fastest(lambda: list(pool.map(triad, range(cores))), seconds),
        }


def fastest(work: Callable[[], object], seconds: float) -> float:
    """Returns the shortest time of one call, of those that fit into some seconds."""
    work()
    ends, best = time.perf_counter() + seconds, float("inf")
    while time.perf_counter() < ends or best == float("inf"):
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return best


if __name__ == "__main__":
    main()
