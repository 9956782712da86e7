"""The ways in are those of the front."""

from tests.front.conftest import ways, without_collector

__all__ = ["ways", "without_collector"]
