"""A server: python server_program.py MODEL PORT CONFIG OPTIONS, the last two as JSON."""

from __future__ import annotations

import json
import sys

from vivace.core.config import EngineConfig
from vivace.core.errors import VivaceError
from vivace.serve.options import ServeOptions
from vivace.serve.server import run

CONFIG = {"backend": "reference", "kv_memory_bytes": 4 << 20}


def main() -> None:
    model, port, config, options = sys.argv[1:]
    try:
        settings = EngineConfig(model=model, **{**CONFIG, **json.loads(config)})
        run(settings, port=int(port), options=ServeOptions(**json.loads(options)))
    except VivaceError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
