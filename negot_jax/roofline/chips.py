"""The accelerators whose specifications are known, by JAX's `device_kind`.

Compute, memory bandwidth and interconnect are as the makers publish them (https://cloud.google.com/tpu/docs, and
NVIDIA's data sheets). The memory of a TPU is what its compiler grants a program, by its out-of-memory errors.
"""

from typing import NamedTuple

_GIB = 2**30


class Chip(NamedTuple):
    """flops: dense bfloat16 FLOP/s. The rest is None where it is not known.

    bandwidth: bytes/s of its memory. memory: bytes. network: bytes/s it can send on all its links together.
    """

    flops: float
    bandwidth: float | None = None
    memory: float | None = None
    network: float | None = None


_V5P = Chip(459e12, 2.765e12, 95.74 * _GIB, 600e9)
_A100 = Chip(312e12)
CHIPS = {
    "TPU v4": Chip(275e12, 1.228e12),
    "TPU v5 lite": Chip(197e12, 0.819e12, 15.75 * _GIB, 200e9),
    "TPU v5": _V5P,
    "TPU v5p": _V5P,
    "TPU v6 lite": Chip(918e12, 1.64e12, 31.25 * _GIB, 400e9),
    "NVIDIA A100-SXM4-40GB": _A100,
    "NVIDIA A100-SXM4-80GB": _A100,
    "NVIDIA H100 80GB HBM3": Chip(989e12),
    "NVIDIA H200": Chip(989e12),
}
