"""The use of the first GPU that this process may see, asked of NVIDIA's driver (NVML).

The library comes with the driver, so nothing has to be installed; without it there are no signals.
https://docs.nvidia.com/deploy/nvml-api
"""

import ctypes
import os
from ctypes import byref

LIBRARY = "libnvidia-ml.so.1"
UTILISATION_SAMPLES = 1  # nvmlSamplingType_t: NVML_GPU_UTILIZATION_SAMPLES
GIB = 2.0**30


class _Rates(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))  # per cent


class _Memory(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_ulonglong) for name in ("total", "free", "used"))


class _Value(ctypes.Union):
    _fields_ = (("unsigned", ctypes.c_uint), ("double", ctypes.c_double))


class _Sample(ctypes.Structure):
    _fields_ = (("time", ctypes.c_ulonglong), ("value", _Value))


class Gpu:
    """One GPU, by NVML's handle. What the driver does not answer is left out."""

    def __init__(self, library: ctypes.CDLL, handle: ctypes.c_void_p) -> None:
        """Take a loaded library and the device's handle."""
        self._library, self._handle = library, handle
        self._last = ctypes.c_ulonglong(0)

    def read(self) -> dict[str, float]:
        """`gpu_utilisation`, a share of the time since the last call; memory used and there, GiB.

        All are the whole device's, not this process's share. The driver remembers its
        samples for some 15 seconds; of a longer time the last of it counts.
        """
        signals = {}
        shares = self._samples() or self._rate()
        if shares:
            signals["gpu_utilisation"] = sum(shares) / len(shares) / 100.0
        memory = _Memory()
        if self._library.nvmlDeviceGetMemoryInfo(self._handle, byref(memory)) == 0:
            signals["gpu_memory"] = memory.used / GIB
            signals["gpu_memory_total"] = memory.total / GIB
        return signals

    def _samples(self) -> list[int]:
        ask = self._library.nvmlDeviceGetSamples
        count, kind = ctypes.c_uint(0), ctypes.c_uint(0)
        where = (self._handle, UTILISATION_SAMPLES, self._last, byref(kind), byref(count))
        if ask(*where, None) != 0 or count.value == 0:
            return []
        samples = (_Sample * count.value)()
        if ask(*where, samples) != 0:
            return []
        seen = [sample for sample in samples[: count.value] if sample.time > self._last.value]
        if seen:
            self._last = ctypes.c_ulonglong(max(sample.time for sample in seen))
        return [sample.value.unsigned for sample in seen]

    def _rate(self) -> list[int]:
        rates = _Rates()
        answer = self._library.nvmlDeviceGetUtilizationRates(self._handle, byref(rates))
        return [rates.gpu] if answer == 0 else []


def visible_gpu() -> Gpu | None:
    """The first GPU of `CUDA_VISIBLE_DEVICES`, else the first of all; None without a driver."""
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError:
        return None
    if library.nvmlInit_v2() != 0:
        return None
    handle, name = ctypes.c_void_p(), os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0]
    if name.startswith(("GPU-", "MIG-")):
        answer = library.nvmlDeviceGetHandleByUUID(name.encode(), byref(handle))
    else:
        index = int(name) if name.isdecimal() else 0
        answer = library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), byref(handle))
    return Gpu(library, handle) if answer == 0 else None
