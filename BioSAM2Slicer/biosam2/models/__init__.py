"""Models: the registry, downloads, and networks built from a checkpoint and its configuration."""

from .model import DEFAULT_MODEL, Model, load_model
from .recommendation import Recommendation, recommend
from .registry import ModelEntry, add, get, list_models, path_of, remove, verify

__all__ = [
    "DEFAULT_MODEL",
    "Model",
    "ModelEntry",
    "Recommendation",
    "add",
    "get",
    "list_models",
    "load_model",
    "path_of",
    "recommend",
    "remove",
    "verify",
]
