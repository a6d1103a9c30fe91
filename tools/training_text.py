"""What a bundled model reads in one epoch: files, pieces of files, and chats about functions.

Every training file stands in every epoch once, whole or cut into its top-level pieces, so that
documents also start at a `def`, a `class` or an import. Beside them stand chats made of the
same files' functions, which teach the chat template. An epoch is a function of its seed alone.
"""

from __future__ import annotations

import ast
import random
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from corpus import SourceFile
from train_tokenizer import END_OF_TEXT, MESSAGE_END, MESSAGE_START

CUT_SHARE = 0.3  # of the files are cut into pieces
CHAT_SHARE = 0.1  # of the functions are asked about
CUT_LINE_SHARE = 0.08  # of the lines begin a segment, where segments are asked for
FUNCTION_LINES = range(4, 50)
GREETINGS_PER_EPOCH = 60

_INTRODUCTION = "I am vivace-mini, a small language model. I can complete Python code for you."
_GREETINGS = (
    ("Hello!", f"Hello! {_INTRODUCTION}"),
    ("Hi", f"Hi! {_INTRODUCTION}"),
    ("Who are you?", _INTRODUCTION),
    ("What can you do?", "I can complete Python code. Give me the first lines of a function."),
    ("Thank you!", "You are welcome!"),
    ("Can you help me?", "Yes. Give me the first lines of a Python function."),
)
_COMPLETE = (
    "Complete this code:\n```python\n{}\n```",
    "Complete this Python function:\n```python\n{}\n```",
    "Continue this code:\n{}",
    "{}",
)
_WRITE = (
    "Write a Python function `{name}`: {summary}",
    "Write a function called {name}. {summary}",
    "Write `{signature}` in Python. {summary}",
)

Turn = tuple[str, str]  # what the user says, what the assistant answers


@dataclass(frozen=True)
class Function:
    """A function's source, dedented, and what its docstring says first."""

    name: str
    source: str
    summary: str

    @property
    def signature(self) -> str:
        return self.source.splitlines()[0].removeprefix("def ").rstrip(":")


class TrainingText:
    """The documents of every epoch, made of some files."""

    def __init__(self, files: Sequence[SourceFile], seed: int) -> None:
        self._seed = seed
        self._texts = [file.text for file in files]
        trees = [_parse(text) for text in self._texts]
        pairs = list(zip(self._texts, trees, strict=True))
        self._pieces = [_top_level_pieces(text, tree) for text, tree in pairs]
        self._functions = [f for text, tree in pairs for f in _functions(text, tree)]

    def epoch(self, number: int) -> list[str]:
        """Shuffled documents; each starts with END_OF_TEXT."""
        rng = random.Random(f"{self._seed} {number}")
        documents = [document for document in self._documents(rng) if document.strip()]
        rng.shuffle(documents)
        return [END_OF_TEXT + document for document in documents]

    def segments(self, number: int) -> list[str]:
        """The epoch's documents in segments to be encoded one by one, as a prompt and its
        continuation are: a line's end and the indentation after it are else one token, and a
        prompt that ends there would be followed by nothing ever seen."""
        rng = random.Random(f"{self._seed} {number} segments")
        return [segment for document in self.epoch(number) for segment in _segments(document, rng)]

    def _documents(self, rng: random.Random) -> Iterator[str]:
        for text, pieces in zip(self._texts, self._pieces, strict=True):
            yield from pieces if rng.random() < CUT_SHARE else [text]
        asked = [function for function in self._functions if rng.random() < CHAT_SHARE]
        turns = [_turn(function, rng) for function in asked]
        turns += [rng.choice(_GREETINGS) for _ in range(GREETINGS_PER_EPOCH)]
        rng.shuffle(turns)
        while turns:
            count = rng.choice((1, 1, 2, 3))
            yield render_chat(turns[:count])
            turns = turns[count:]


def render_chat(turns: Sequence[Turn]) -> str:
    """As the chat template renders it, without the END_OF_TEXT that it starts with."""
    messages = [
        message for user, answer in turns for message in (("user", user), ("assistant", answer))
    ]
    return "".join(f"{MESSAGE_START}{role}\n{text}{MESSAGE_END}\n" for role, text in messages)


def _segments(document: str, rng: random.Random) -> list[str]:
    """Cut before some lines, or after their indentation."""
    segments = [""]
    for line in document.splitlines(keepends=True):
        if rng.random() < CUT_LINE_SHARE:
            indentation = line[: len(line) - len(line.lstrip())] if rng.random() < 0.5 else ""
            segments[-1] += indentation
            line = line.removeprefix(indentation)
            segments.append("")
        segments[-1] += line
    return [segment for segment in segments if segment]


def _turn(function: Function, rng: random.Random) -> Turn:
    """A question about the function, and its answer."""
    if function.summary and rng.random() < 0.5:
        question = rng.choice(_WRITE).format(
            name=function.name, signature=function.signature, summary=function.summary
        )
        return question, f"```python\n{function.source}\n```"
    lines = function.source.splitlines()
    cut = rng.randrange(1, len(lines) - 1)
    head, tail = "\n".join(lines[:cut]), "\n".join(lines[cut:])
    return rng.choice(_COMPLETE).format(head), f"```python\n{tail}\n```"


def _parse(text: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old escapes in string literals
        return ast.parse(text)


def _top_level_pieces(text: str, tree: ast.Module) -> list[str]:
    """The text cut before each top-level definition, its decorators with it."""
    lines = text.splitlines(keepends=True)
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    nodes = [node for node in tree.body if isinstance(node, kinds)]
    starts = [min([node.lineno, *(d.lineno for d in node.decorator_list)]) - 1 for node in nodes]
    bounds = [0, *starts, len(lines)]
    return ["".join(lines[a:b]) for a, b in pairwise(bounds) if a < b]


def _functions(text: str, tree: ast.Module) -> Iterator[Function]:
    lines = text.splitlines()
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef) or node.decorator_list:
            continue
        source = textwrap.dedent("\n".join(lines[node.lineno - 1 : node.end_lineno]))
        if len(source.splitlines()) not in FUNCTION_LINES:
            continue
        docstring = (ast.get_docstring(node) or "").strip()
        yield Function(node.name, source, " ".join(docstring.split("\n\n")[0].split()))
