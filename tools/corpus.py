"""The corpus of the bundled models: the standard library of the running CPython.

Held out is every file whose SHA-256 of its path relative to the library is 0 modulo 20, less
those nearly identical to a training file: a file of which at least half of the distinct runs of
`SHINGLE_LINES` stripped, non-empty lines also stand in some one training file. Such a file is in
neither set. Nothing held out is ever trained on.

    python tools/corpus.py            # what the corpus is
    python tools/corpus.py --write    # also write src/vivace/assets/heldout*, licence and all
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import platform
import shutil
import sysconfig
import tokenize
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ASSETS = Path(__file__).resolve().parents[1] / "src" / "vivace" / "assets"
HELD_OUT_MODULUS = 20
NEAR_DUPLICATE_SHARE = 0.5
SHINGLE_LINES = 5

# Tests, installed and bundled packages, tables, generated text, grammars of old Pythons.
_LEFT_OUT_FOLDERS = {
    "__pycache__",
    "encodings",
    "ensurepip",
    "idle_test",
    "lib2to3",
    "msilib",
    "pydoc_data",
    "site-packages",
    "test",
    "tests",
}
_LEFT_OUT_FILES = {"html/entities.py", "stringprep.py"}
_LEFT_OUT_PREFIXES = ("_sysconfigdata", "config-")


@dataclass(frozen=True)
class SourceFile:
    """A file of the library; `path` is relative to it, with forward slashes."""

    path: str
    text: str

    @property
    def is_held_out_by_hash(self) -> bool:
        digest = hashlib.sha256(self.path.encode()).hexdigest()
        return int(digest, 16) % HELD_OUT_MODULUS == 0

    @cached_property
    def shingles(self) -> frozenset[str]:
        """Every run of SHINGLE_LINES non-empty lines, stripped; a shorter file is one run."""
        lines = [line.strip() for line in self.text.splitlines() if line.strip()]
        runs = range(max(1, len(lines) - SHINGLE_LINES + 1))
        return frozenset("\n".join(lines[i : i + SHINGLE_LINES]) for i in runs)


@dataclass(frozen=True)
class Corpus:
    """The split. `near_duplicates` are held out by hash and in neither set."""

    train: tuple[SourceFile, ...]
    held_out: tuple[SourceFile, ...]
    near_duplicates: tuple[SourceFile, ...]


def split(files: list[SourceFile]) -> Corpus:
    """Divide by hash, then drop from the held-out what a training file nearly repeats."""
    train = [file for file in files if not file.is_held_out_by_hash]
    candidates = [file for file in files if file.is_held_out_by_hash]
    near = [file for file in candidates if _largest_share(file, train) >= NEAR_DUPLICATE_SHARE]
    held_out = [file for file in candidates if file not in near]
    return Corpus(tuple(train), tuple(held_out), tuple(near))


def _largest_share(file: SourceFile, train: list[SourceFile]) -> float:
    shared = max((len(file.shingles & other.shingles) for other in train), default=0)
    return shared / len(file.shingles)


def is_included(path: str) -> bool:
    """Whether the corpus has the file of this relative path."""
    *folders, name = path.split("/")
    if path in _LEFT_OUT_FILES or not name.endswith(".py"):
        return False
    return not (
        _LEFT_OUT_FOLDERS.intersection(folders)
        or any(part.startswith(_LEFT_OUT_PREFIXES) for part in (*folders, name))
    )


def read_library(root: Path) -> list[SourceFile]:
    """Every included, non-empty file under `root`, by path."""
    files = []
    for file in sorted(root.rglob("*.py")):
        path = file.relative_to(root).as_posix()
        if not is_included(path):
            continue
        with tokenize.open(file) as stream:
            text = stream.read()
        if text.strip():
            files.append(SourceFile(path, text))
    return files


def library() -> Path:
    """The running interpreter's."""
    return Path(sysconfig.get_path("stdlib"))


def load() -> Corpus:
    """The corpus of the running interpreter."""
    return split(read_library(library()))


def provenance(corpus: Corpus) -> dict[str, object]:
    """What the held-out text is, for the JSON beside it."""
    text = "".join(file.text for file in corpus.held_out).encode()
    return {
        "source": f"CPython {platform.python_version()} standard library",
        "licence": "PSF-2.0",
        "rule": f"SHA-256 of the path relative to the library is 0 modulo {HELD_OUT_MODULUS}, "
        "less files nearly identical to a training file (tools/corpus.py)",
        "bytes": len(text),
        "sha256": hashlib.sha256(text).hexdigest(),
        "xz_9_bytes": len(lzma.compress(text, preset=9)),
        "files": [file.path for file in corpus.held_out],
        "near_duplicates_left_out": [file.path for file in corpus.near_duplicates],
        "training_files": len(corpus.train),
        "training_bytes": sum(len(file.text.encode()) for file in corpus.train),
    }


def write_held_out(corpus: Corpus, folder: Path) -> None:
    """`heldout.jsonl.xz` (one {"path", "text"} a line) and `heldout.json` beside it."""
    rows = (json.dumps({"path": f.path, "text": f.text}) + "\n" for f in corpus.held_out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "heldout.jsonl.xz").write_bytes(lzma.compress("".join(rows).encode(), preset=9))
    (folder / "heldout.json").write_text(json.dumps(provenance(corpus), indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="The corpus of the bundled models.")
    parser.add_argument("--write", action="store_true", help=f"write {ASSETS.name}/heldout*")
    corpus = load()
    if parser.parse_args().write:
        write_held_out(corpus, ASSETS)
        shutil.copy(library() / "LICENSE.txt", ASSETS / "heldout.LICENSE")
    folders = Counter(file.path.split("/")[0] for file in corpus.train if "/" in file.path)
    print(json.dumps(provenance(corpus) | {"training_folders": folders}, indent=2))


if __name__ == "__main__":
    main()
