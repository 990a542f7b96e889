# SPDX-License-Identifier: Apache-2.0
"""Reads the file that safetensors_test.cpp wrote with the package safetensors; fails where it differs."""
import sys

from safetensors import deserialize, safe_open

path = sys.argv[1]
with open(path, "rb") as f:
    raw = f.read()
tensors = dict(deserialize(raw))
assert len(tensors) == 44, len(tensors)
for name, t in tensors.items():
    assert name.split()[0] == t["dtype"], name
    assert list(t["shape"]) == ([3, 4] if name.endswith("small") else [8, 64]), name
    data = bytes(t["data"])
    assert data == bytes(i % 251 for i in range(len(data))), name
    if name.endswith("large"):
        assert raw.find(data) % 64 == 0, name
with safe_open(path, "np") as f:
    assert f.metadata() == {"k\u00e9y": '"\\\n\u0001\U0001f600'}, f.metadata()
