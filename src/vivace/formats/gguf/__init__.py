"""GGUF, llama.cpp's file format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md."""
