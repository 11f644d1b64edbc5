"""A small network and small volumes."""

from small_network import checkpoint, model, one_thread_in_children, volume, volumes

__all__ = ["checkpoint", "model", "one_thread_in_children", "volume", "volumes"]
