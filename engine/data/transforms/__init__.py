"""Transforms of uint8 images, in torchvision's names.

Each transform is two functions: one takes random numbers and returns parameters, the other takes images and parameters
and is deterministic. For most they are `make_params` and `transform` of one image; `draw` and `apply` are those of a
batch. `functional` holds the deterministic functions by themselves. Without random numbers a transform does what
evaluation needs: what changes the size takes the middle, all else leaves images alone.

Images are (N, H, W, C) or (H, W, C) uint8, or Pillow images, until `Normalize`, `ToTensor` or `ToDtype` makes them
float32 with axes (N, C, H, W); the memory stays channels-last, as tensors keep it, so nothing is moved twice.
"""

from . import functional
from .auto import AutoAugment, RandAugment, TrivialAugmentWide
from .base import Compose, FixedTransform, ImageTransform, RandomApply, RandomTransform, Transform
from .color import ColorJitter, GaussianBlur, GaussianNoise, Grayscale, RandomErasing, RandomGrayscale
from .conversion import ImageClassification, Normalize, ToDtype, ToTensor
from .geometry import (
    CenterCrop,
    ElasticTransform,
    Pad,
    RandomAffine,
    RandomCrop,
    RandomHorizontalFlip,
    RandomPerspective,
    RandomResizedCrop,
    RandomRotation,
    RandomVerticalFlip,
    Resize,
)
from .mixing import CutMix, MixUp

__all__ = [
    "AutoAugment",
    "CenterCrop",
    "ColorJitter",
    "Compose",
    "CutMix",
    "ElasticTransform",
    "FixedTransform",
    "GaussianBlur",
    "GaussianNoise",
    "Grayscale",
    "ImageClassification",
    "ImageTransform",
    "MixUp",
    "Normalize",
    "Pad",
    "RandAugment",
    "RandomAffine",
    "RandomApply",
    "RandomCrop",
    "RandomErasing",
    "RandomGrayscale",
    "RandomHorizontalFlip",
    "RandomPerspective",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomTransform",
    "RandomVerticalFlip",
    "Resize",
    "ToDtype",
    "ToTensor",
    "Transform",
    "TrivialAugmentWide",
    "functional",
]
