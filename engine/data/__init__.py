"""Data: datasets, loaders, samplers, splits, transforms of images."""

from .dataset import ArrayDataset, ConcatDataset, Dataset, Subset, TensorDataset, collate
from .datasets import digits, load_dataset
from .images import ImageError, Preprocessing, read_image
from .loader import DataLoader
from .random import SampleRandom
from .sampler import RandomSampler, Sampler, SequentialSampler
from .split import random_split, stratified_split
from .transforms import Compose, ImageClassification, Normalize, RandomCrop, RandomHorizontalFlip, ToTensor, Transform

__all__ = [
    "ArrayDataset",
    "Compose",
    "ConcatDataset",
    "DataLoader",
    "Dataset",
    "ImageClassification",
    "ImageError",
    "Normalize",
    "Preprocessing",
    "RandomCrop",
    "RandomHorizontalFlip",
    "RandomSampler",
    "SampleRandom",
    "Sampler",
    "SequentialSampler",
    "Subset",
    "TensorDataset",
    "ToTensor",
    "Transform",
    "collate",
    "digits",
    "load_dataset",
    "random_split",
    "read_image",
    "stratified_split",
]
