"""The server process: start the engine, listen, say so, and stop in order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Generator
from functools import partial
from math import ceil

import uvicorn
from fastapi import FastAPI

from vivace.core.config import EngineConfig
from vivace.core.errors import VivaceError
from vivace.serve.app import create_app_for
from vivace.serve.connections import Connection, Patience
from vivace.serve.keys import load_keys
from vivace.serve.logs import LOGGER, logging_as
from vivace.serve.models import Models
from vivace.serve.observers import Observers
from vivace.serve.options import ServeOptions
from vivace.serve.served import Shared
from vivace.serve.starting import Starter, limits, model_configs

ABORTED_SECONDS = 5  # for answers that were cut short to be sent
KEEP_ALIVE_SECONDS = 75  # longer than clients keep idle connections


def run(
    config: EngineConfig,
    host: str = "127.0.0.1",
    port: int = 8000,
    options: ServeOptions | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM; answers that have begun get `drain_timeout` to finish.

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
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # clients may vanish silently
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
    shared = Shared(options, Observers(options))
    configs = model_configs(config, options)
    starter = Starter(configs, LOGGER.info, shared)
    models = Models(list(configs), starter.start, starter.stop, limits(options), shared.doors)
    loading = asyncio.current_task()
    assert loading is not None
    _on_signals(loading.cancel)
    try:
        await models.start()
        server = _Server(create_app_for(models, shared), listener, options)
        _on_signals(server.stop)
        await server.serve([listener])
    finally:
        await models.close()
        await asyncio.to_thread(shared.observers.close)


def _on_signals(action: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, action)


def uvicorn_config(app: FastAPI, options: ServeOptions) -> uvicorn.Config:
    """How uvicorn serves the application."""
    patience = Patience(options.slow_sender_timeout, options.slow_reader_timeout)
    return uvicorn.Config(
        app,
        http=partial(Connection, patience=patience),  # type: ignore[arg-type]
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=ceil(options.drain_timeout) + ABORTED_SECONDS,
    )


class _Server(uvicorn.Server):
    """Says when it is ready, and leaves signals to `_on_signals`: uvicorn would raise them again
    before the engine is closed."""

    def __init__(self, app: FastAPI, listener: socket.socket, options: ServeOptions) -> None:
        super().__init__(uvicorn_config(app, options))
        self._drain_timeout = options.drain_timeout
        self._url = _url(listener)
        self._models: Models = app.state.models

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        with contextlib.suppress(OSError):  # whoever started it may not be listening
            print(f"vivace is ready at {self._url} (OpenAI-compatible, under /v1)", flush=True)

    def stop(self) -> None:
        """Finish what has begun and end; called again, end at once."""
        self._models.doors.stopping = True
        self.force_exit = self.should_exit
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        cutting = asyncio.create_task(self._cut_short())
        await super().shutdown(sockets)
        cutting.cancel()

    async def _cut_short(self) -> None:
        """Whoever is not done in time keeps what he has, and is told."""
        await asyncio.sleep(self._drain_timeout)
        for served in self._models.loaded:
            await served.generation.abort_all()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
