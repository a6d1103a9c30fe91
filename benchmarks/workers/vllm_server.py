"""vLLM's own server, told by VLLM_NO_TILES=1 that there are no AMX tiles, in every process of it:
those it starts import this file too.

    python vllm_server.py ARGUMENTS ...
"""

from __future__ import annotations

import os
import runpy

if os.environ.get("VLLM_NO_TILES") == "1":
    import torch

    torch.cpu._is_amx_tile_supported = lambda: False

if __name__ == "__main__":
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__")
