"""`vivace canary`, end to end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
from program import Vivace

REFERENCE = ("--backend", "reference", "--json")


def test_a_canary_is_recorded_and_sees_damage(
    vivace: Vivace, text_model: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(text_model, model)
    missing = vivace("canary", "check", model, *REFERENCE)
    assert missing.code == 2
    assert "vivace canary record" in missing.err
    made = json.loads(vivace("canary", "record", model, "--max-kl", 1e-4, *REFERENCE).out)
    assert made["file"] == str(model / "vivace.json")
    well = vivace("canary", "check", model, *REFERENCE)
    assert well.code == 0
    assert json.loads(well.out)["kl_nats"] < 1e-6
    damage(model / "model.safetensors")
    damaged = vivace("canary", "check", model, *REFERENCE)
    assert damaged.code == 1
    assert "predicts otherwise" in damaged.err


def damage(path: Path) -> None:
    """Double the last weights of the file."""
    data = bytearray(path.read_bytes())
    tail = np.frombuffer(data, dtype=ml_dtypes.bfloat16, offset=len(data) - 4096)
    tail *= 2
    path.write_bytes(data)
