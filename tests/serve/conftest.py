"""What tests of this folder share."""

from tests.serve.fixtures import model, url

__all__ = ["model", "url"]
