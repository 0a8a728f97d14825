"""Data: datasets, loaders, samplers, splits, transforms of images."""

from __future__ import annotations

from .dataset import (
    ArrayDataset as ArrayDataset,
    ConcatDataset as ConcatDataset,
    Dataset as Dataset,
    Subset as Subset,
    TensorDataset as TensorDataset,
    collate as collate,
)
from .datasets import digits as digits, load_dataset as load_dataset
from .images import ImageError as ImageError, Preprocessing as Preprocessing, read_image as read_image
from .loader import DataLoader as DataLoader
from .random import SampleRandom as SampleRandom
from .sampler import (
    RandomSampler as RandomSampler,
    Sampler as Sampler,
    SequentialSampler as SequentialSampler,
)
from .split import random_split as random_split, stratified_split as stratified_split
from .transforms import (
    Compose as Compose,
    Normalize as Normalize,
    RandomCrop as RandomCrop,
    RandomHorizontalFlip as RandomHorizontalFlip,
    ToTensor as ToTensor,
    Transform as Transform,
)
