"""What is shipped fits any machine of its kind, and the container file says what there is."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

pytestmark = pytest.mark.tiny

ROOT = Path(__file__).parent.parent
CONTAINER = ROOT / "Containerfile"
INSTRUCTIONS = {
    *("ARG", "FROM", "RUN", "WORKDIR", "COPY", "USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK"),
    *("ENTRYPOINT", "CMD"),
}


def instructions() -> list[tuple[str, str]]:
    """Of the container file, continued lines joined."""
    text = re.sub(r"^#.*\n", "", CONTAINER.read_text(), flags=re.M).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line]


def test_nothing_is_compiled_for_this_very_machine() -> None:
    for name in ("CMakeLists.txt", "pyproject.toml", "Makefile", "Containerfile"):
        assert not re.search(r"m(arch|tune|cpu)=native", (ROOT / name).read_text()), name


def test_the_container_file_is_well_formed() -> None:
    found = instructions()
    assert [kind for kind, _ in found if kind not in INSTRUCTIONS] == []
    assert len([kind for kind, _ in found if kind == "FROM"]) == 2
    users = [rest for kind, rest in found if kind == "USER"]
    assert users == ["vivace"]  # not root


def test_what_the_container_copies_is_there_and_not_ignored() -> None:
    ignored = (ROOT / ".containerignore").read_text().splitlines()
    for kind, rest in instructions():
        if kind == "COPY" and not rest.startswith("--from"):
            *sources, _ = shlex.split(rest)
            for source in sources:
                assert (ROOT / source).exists(), source
                assert f"!{source}" in ignored, source


def test_the_containers_command_is_one_of_vivace(monkeypatch: pytest.MonkeyPatch) -> None:
    from vivace.cli import main

    served: list[tuple[object, ...]] = []
    monkeypatch.setattr("vivace.serve.server.run", lambda *given: served.append(given))
    rest = dict(instructions())
    with pytest.raises(SystemExit) as ended:
        main(json.loads(rest["CMD"]))
    assert ended.value.code == 0
    (_, host, port, _) = served[0]
    assert (host, str(port)) == ("0.0.0.0", rest["EXPOSE"])
    assert f":{port}/health" in rest["HEALTHCHECK"]
