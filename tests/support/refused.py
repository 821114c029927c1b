"""Values that are no coefficient."""

from __future__ import annotations

import keras
import numpy as np

REFUSED_TYPES = {
    "bool": True,
    "numpy bool": np.bool_(False),
    "array of bool": np.array(True),
    "string": "0.1",
    "bytes": b"0.1",
    "None": None,
    "complex": 0.1 + 0j,
    "numpy complex": np.complex64(0.1),
    "list": [0.1],
    "rank-1 array": np.array([0.1]),
    "rank-1 tensor": keras.ops.convert_to_tensor([0.1]),
    "callable": abs,
}
REFUSED_VALUES = {
    "nan": float("nan"),
    "inf": float("inf"),
    "negative": -0.1,
    "numpy nan": np.float32("nan"),
    "numpy inf": np.array(np.inf),
    "negative tensor": keras.ops.convert_to_tensor(-1.0),
    "too large an int": 10**400,
}
