"""The server process: start the engine, listen, say so, and stop in order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Generator
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from vivace.core.config import EngineConfig
from vivace.core.errors import VivaceError
from vivace.engine.client import EngineClient
from vivace.serve.app import create_app
from vivace.serve.errors import ApiError
from vivace.serve.generation import Generation
from vivace.serve.interfaces import Engine
from vivace.serve.keys import load_keys
from vivace.serve.liveness import Liveness
from vivace.serve.logs import LOGGER, logging_as
from vivace.serve.options import ServeOptions
from vivace.text.chat import load_chat_template
from vivace.text.tokenizer import load_tokenizer

DRAIN_SECONDS = 30
WATCH_SECONDS = 5.0
KEEP_ALIVE_SECONDS = 75  # longer than clients keep idle connections


def run(
    config: EngineConfig,
    host: str = "127.0.0.1",
    port: int = 8000,
    options: ServeOptions | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM; answers that have begun get `DRAIN_SECONDS` to finish.

    Args:
        port: 0 takes a free one.

    Raises:
        VivaceError: the keys are wrong, the port cannot be had, or the model cannot be loaded.
    """
    options = options or ServeOptions()
    load_keys(options)  # what is wrong with them is known at once
    listener = listen(host, port)  # before the model is loaded: a taken port is known at once
    with (
        contextlib.closing(listener),
        logging_as(options),
        contextlib.suppress(asyncio.CancelledError),
    ):
        asyncio.run(_serve(config, listener, options))


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Nobody can connect until the server listens on it.

    Raises:
        VivaceError: the address is taken or is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Connections inherit it. Without it a token waits up to 40 ms for the one before to be
    # acknowledged; asyncio sets it only on sockets made with an explicit protocol.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise VivaceError(
            f"Cannot listen on {host} port {port} ({error.strerror}); choose another with --host "
            "and --port, or take a free one with --port 0."
        ) from error
    return listener


async def _serve(config: EngineConfig, listener: socket.socket, options: ServeOptions) -> None:
    engine = EngineClient(config, LOGGER.info)
    loading = asyncio.current_task()
    assert loading is not None
    _on_signals(loading.cancel)
    try:
        await engine.start()
        app = _app(engine, options)
        await _produce_a_token(app.state.liveness)
        server = _Server(app, listener)
        _on_signals(server.stop)
        watching = [asyncio.create_task(one) for one in (watch(engine), app.state.canary.watch())]
        await server.serve([listener])
        for task in watching:
            task.cancel()
        for close in app.state.closing:
            await asyncio.to_thread(close)
    except asyncio.CancelledError:
        engine.kill()  # while it loads it hears nothing
        raise
    finally:
        await engine.close()


async def watch(engine: Engine, every: float = WATCH_SECONDS) -> None:
    """Kill an engine that hangs: its streams end with an error, and /health keeps failing, so
    that whoever runs the server knows to start it again."""
    while True:
        await asyncio.sleep(every)
        try:
            await engine.check_health()
        except VivaceError as error:
            LOGGER.error("%s /health fails until the server is restarted.", error)
            engine.kill()
            return


def _app(engine: EngineClient, options: ServeOptions) -> FastAPI:
    folder = Path(engine.info.folder)
    return create_app(engine, load_tokenizer(folder), load_chat_template(folder), options)


async def _produce_a_token(liveness: Liveness) -> None:
    """Nobody is told that the server is ready before it was."""
    try:
        await liveness.check()
    except ApiError as error:
        raise VivaceError(f"{error} Check the checkpoint, or try dtype float32.") from error


def _on_signals(action: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, action)


class _Server(uvicorn.Server):
    """Says when it is ready, and leaves signals to `_on_signals`: uvicorn would raise them again
    before the engine is closed."""

    def __init__(self, app: FastAPI, listener: socket.socket) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=DRAIN_SECONDS,
            )
        )
        self._url = _url(listener)
        self._generation: Generation = app.state.generation

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        with contextlib.suppress(OSError):  # whoever started it may not be listening
            print(f"vivace is ready at {self._url} (OpenAI-compatible, under /v1)", flush=True)

    def stop(self) -> None:
        """Finish what has begun and end; called again, end at once."""
        self._generation.stopping = True
        self.force_exit = self.should_exit
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
