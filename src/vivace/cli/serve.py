"""`vivace serve`: the OpenAI-compatible server."""

from __future__ import annotations

from typing import Annotated

import typer

from vivace.cli.flags import flags
from vivace.core.config import EngineConfig

Host = Annotated[str, typer.Option("--host", help="Address to listen on.")]
Port = Annotated[int, typer.Option("--port", help="Port; 0 takes a free one.", min=0, max=65535)]
ServedModelName = Annotated[
    str | None,
    typer.Option("--served-model-name", help="What clients call the model; left out: MODEL."),
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key", envvar="VIVACE_API_KEY", help="Clients must bring it as a bearer token."
    ),
]
MaxBodyBytes = Annotated[
    int, typer.Option("--max-body-bytes", help="Larger request bodies are refused.", min=1)
]


@flags
def serve(
    config: EngineConfig,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    served_model_name: ServedModelName = None,
    api_key: ApiKey = None,
    max_body_bytes: MaxBodyBytes = 10 << 20,
) -> None:
    """Serve a model over HTTP; prints one line with its URL when ready."""
    from vivace.serve.options import ServeOptions
    from vivace.serve.server import run

    run(config, host, port, ServeOptions(served_model_name, api_key, max_body_bytes))
