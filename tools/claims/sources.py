"""Which sources a row was made on."""

from __future__ import annotations

import hashlib
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
BUILT = {".so", ".pyc", "__pycache__"}


def sources_hash(root: Path = ROOT) -> str:
    """Of all that is installed (the bundled model and texts too): every name and content, in
    order of names."""
    files = [root / "CMakeLists.txt", root / "pyproject.toml"]
    for folder in (root / "src", root / "native"):
        files += [path for path in folder.rglob("*") if not {path.suffix, path.parent.name} & BUILT]
    digest = hashlib.sha256()
    for path in sorted(path for path in files if path.is_file()):
        name = path.relative_to(root).as_posix()
        digest.update(f"{name}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]
