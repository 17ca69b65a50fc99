"""Fixtures that several rooms share."""

from tests.hub.fixture import connect, hub, transport

__all__ = ["connect", "hub", "transport"]
