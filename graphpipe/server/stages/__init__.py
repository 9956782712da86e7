"""The stages between a checked request and the model. Each has one method and knows only the next stage."""

from graphpipe.server.stages.stage import Outputs, Request, Stage

__all__ = ["Outputs", "Request", "Stage"]
