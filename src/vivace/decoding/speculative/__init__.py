"""Speculation: rules that propose tokens and accept them. Nothing is here yet."""
