"""The tensor that a module counts among its parameters."""

from engine.tensor import Parameter

__all__ = ["Parameter"]
