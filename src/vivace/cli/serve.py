"""`vivace serve`: the OpenAI-compatible server."""

from __future__ import annotations

from typing import Annotated

import typer

from vivace.cli.flags import flags
from vivace.core.config import EngineConfig
from vivace.serve.options import ServeOptions

Host = Annotated[str, typer.Option("--host", help="Address to listen on.")]
Port = Annotated[int, typer.Option("--port", help="Port; 0 takes a free one.", min=0, max=65535)]


@flags
def serve(
    config: EngineConfig, options: ServeOptions, host: Host = "127.0.0.1", port: Port = 8000
) -> None:
    """Serve a model over HTTP; prints one line with its URL when ready."""
    from vivace.serve.server import run

    run(config, host, port, options)
