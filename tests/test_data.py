"""Datasets, loader, samplers, splits, and images from files."""

from __future__ import annotations

import collections

import numpy as np
import pytest

from engine.data import (
    ArrayDataset,
    ConcatDataset,
    DataLoader,
    Dataset,
    ImageError,
    Normalize,
    Preprocessing,
    RandomCrop,
    RandomSampler,
    Subset,
    ToTensor,
    collate,
    digits,
    load_dataset,
    random_split,
    read_image,
    stratified_split,
)
from engine.data.images import as_digit, resize


class Squares(Dataset):
    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int):
        return np.full((2, 2), index, np.float64), index * index


def numbered(count: int) -> ArrayDataset:
    return ArrayDataset(np.arange(count, dtype=np.float32), np.arange(count))


def order_of(loader: DataLoader) -> list[int]:
    return [int(label) for _, labels in loader for label in labels.numpy()]


# Datasets.


def test_digits_are_scikit_learns() -> None:
    data = digits()
    assert len(data) == 1797
    assert data.arrays[0].shape == (1797, 8, 8, 1)
    assert data.arrays[0].dtype == np.uint8
    assert data.classes == tuple("0123456789")
    assert np.bincount(data.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    sklearn_datasets = pytest.importorskip("sklearn.datasets")
    want = sklearn_datasets.load_digits()
    np.testing.assert_array_equal(np.round(data.arrays[0][..., 0] / 255 * 16), want.images)
    np.testing.assert_array_equal(data.labels, want.target)


def test_array_dataset_converts_types_that_tensors_lack() -> None:
    data = ArrayDataset(np.zeros((3, 2), np.float64), np.zeros(3, np.uint8), np.zeros((3, 4, 4), np.uint8))
    assert [array.dtype.name for array in data.arrays] == ["float32", "int64", "uint8"]
    with pytest.raises(TypeError, match="dtype object"):
        ArrayDataset(np.array([None, 1], object))


def test_array_dataset_does_not_copy() -> None:
    pixels = np.zeros((3, 2, 2, 1), np.uint8)
    assert ArrayDataset(pixels).arrays[0] is pixels


def test_labels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"equal length, got \[4, 3\]"):
        ArrayDataset(np.zeros((4, 2)), np.zeros(3))
    with pytest.raises(ValueError, match=r"0\.\.1 for 2 class names, got labels from 0 to 2"):
        ArrayDataset(np.zeros((3, 2)), [0, 1, 2], classes=("a", "b"))


def test_gather_keeps_channels_last_memory() -> None:
    stored = np.random.default_rng(0).normal(size=(6, 4, 5, 3)).astype(np.float32).transpose(0, 3, 1, 2)
    data = ArrayDataset(stored)
    batch = data.gather([4, 1])
    np.testing.assert_array_equal(batch, stored[[4, 1]])
    assert batch.transpose(0, 2, 3, 1).flags.c_contiguous


def test_subset_and_concat_see_the_right_samples() -> None:
    part = Subset(numbered(10), [9, 3, 5])
    assert [int(part[i][1]) for i in range(3)] == [9, 3, 5]
    assert part.gather([2, 0])[1].tolist() == [5, 9]
    assert part.labels.tolist() == [9, 3, 5]
    nested = Subset(part, [1])
    assert nested.gather([0])[1].tolist() == [3]
    both = ConcatDataset([part, numbered(2), Squares()])
    assert len(both) == 15
    assert [int(both[i][1]) for i in (0, 3, 4, 7, 14)] == [9, 0, 1, 4, 81]
    assert int(both[-1][1]) == 81
    with pytest.raises(IndexError):
        both[15]
    with pytest.raises(IndexError, match=r"0\.\.9"):
        Subset(numbered(10), [10])
    with pytest.raises(ValueError):
        ConcatDataset([])


def test_collate_handles_dicts_strings_and_refuses_mixtures() -> None:
    batch = collate([{"x": 1.5, "name": "a"}, {"x": 2.5, "name": "b"}])
    assert batch["x"].dtype == np.float32
    assert batch["name"] == ["a", "b"]
    with pytest.raises(ValueError, match="one shape"):
        collate([np.zeros((2, 2)), np.zeros((3, 2))])
    with pytest.raises(ValueError, match="2 fields"):
        collate([(1, 2), (1,)])
    with pytest.raises(ValueError, match="at least one"):
        collate([])


# Loader.


def test_loader_batches_in_order_and_drops_the_rest_on_request() -> None:
    sizes = [len(labels) for _, labels in DataLoader(numbered(10), batch_size=4)]
    assert sizes == [4, 4, 2]
    assert order_of(DataLoader(numbered(10), batch_size=4)) == list(range(10))
    dropping = DataLoader(numbered(10), batch_size=4, drop_last=True)
    assert len(dropping) == len(list(dropping)) == 2


def test_order_is_a_function_of_seed_and_epoch() -> None:
    loader = DataLoader(numbered(50), batch_size=7, shuffle=True, seed=5)
    epochs = [order_of(loader) for _ in range(3)]
    assert all(sorted(order) == list(range(50)) for order in epochs)
    assert len({tuple(order) for order in epochs}) == 3
    loader.set_epoch(1)
    assert order_of(loader) == epochs[1]
    assert order_of(loader) == epochs[2]
    assert order_of(DataLoader(numbered(50), batch_size=3, shuffle=True, seed=5)) == epochs[0]
    assert order_of(DataLoader(numbered(50), batch_size=7, shuffle=True, seed=6)) != epochs[0]


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_nothing(workers: int) -> None:
    data = ArrayDataset(np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8), np.arange(40))

    class Steps:
        def __call__(self, pixels, random):
            return ToTensor()(RandomCrop(8, padding=2)(pixels, random))

    def run(batch_size: int, num_workers: int):
        loader = DataLoader(data, batch_size, shuffle=True, num_workers=num_workers, seed=3, transform=Steps())
        batches = [(pixels.numpy(), labels.numpy()) for _ in range(2) for pixels, labels in loader]
        return [np.concatenate(field) for field in zip(*batches, strict=True)]

    alone, helped, other_size = run(6, 0), run(6, workers), run(11, workers)
    for want, got, same in zip(alone, helped, other_size, strict=True):
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(same, want)


def test_a_worker_raises_in_the_loop_and_an_abandoned_loop_ends_its_threads() -> None:
    import threading

    class Broken(Squares):
        def __getitem__(self, index: int):
            if index == 6:
                raise RuntimeError("sample 6 is broken")
            return super().__getitem__(index)

    with pytest.raises(RuntimeError, match="sample 6"):
        list(DataLoader(Broken(), batch_size=2, num_workers=2))
    for _ in DataLoader(Squares(), batch_size=1, num_workers=2):
        break
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("engine-loader")]


def test_loader_takes_plain_objects_samplers_and_collate_functions() -> None:
    class Plain:
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int):
            return float(index), index

    assert order_of(DataLoader(Plain(), batch_size=2)) == [0, 1, 2]
    assert order_of(DataLoader(numbered(5), batch_size=2, sampler=[4, 0, 0])) == [4, 0, 0]
    doubled = DataLoader(Plain(), batch_size=3, collate_fn=lambda samples: np.array([2 * s[1] for s in samples]))
    assert next(iter(doubled)).numpy().tolist() == [0, 2, 4]
    draws = RandomSampler(numbered(5), replacement=True, num_samples=40, seed=1)
    counts = collections.Counter(order_of(DataLoader(numbered(5), batch_size=8, sampler=draws)))
    assert sum(counts.values()) == 40
    assert set(counts) <= set(range(5))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"num_workers": -1}, "num_workers"),
        ({"shuffle": True, "sampler": [0]}, "sampler"),
    ],
)
def test_loader_refuses(arguments: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DataLoader(numbered(4), **arguments)


# Splits.


@pytest.mark.parametrize("seed", [0, 1, 99])
def test_stratified_split_divides_every_class_by_its_share(seed: int) -> None:
    labels = digits().labels
    fractions = (0.7, 0.15, 0.15)
    parts = stratified_split(labels, fractions, seed)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    for part, fraction in zip(parts, fractions, strict=True):
        assert abs(len(part) - fraction * len(labels)) < 1.01
        for label in range(10):
            assert abs((labels[part] == label).sum() - fraction * (labels == label).sum()) < 1
    again = stratified_split(labels, fractions, seed)
    assert all((a == b).all() for a, b in zip(parts, again, strict=True))
    assert not np.array_equal(parts[2], stratified_split(labels, fractions, seed + 1)[2])


def test_stratified_split_gives_small_classes_to_every_part_or_refuses() -> None:
    parts = stratified_split([0] * 50 + [1] * 3, (0.8, 0.1, 0.1))
    assert all((part >= 50).sum() == 1 for part in parts)
    with pytest.raises(ValueError, match="got 2 of class 1"):
        stratified_split([0] * 50 + [1] * 2, (0.8, 0.1, 0.1))
    with pytest.raises(ValueError, match="add up to 1"):
        stratified_split([0, 1], (0.5, 0.6))
    with pytest.raises(ValueError, match="one label per sample"):
        stratified_split(np.zeros((2, 2)), (0.5, 0.5))


def test_random_split_is_disjoint_and_complete() -> None:
    parts = random_split(numbered(11), [0.5, 0.25, 0.25], seed=4)
    assert [len(part) for part in parts] == [5, 3, 3]
    assert sorted(int(i) for part in parts for i in part.indices) == list(range(11))
    assert [len(part) for part in random_split(numbered(11), [4, 7])] == [4, 7]
    with pytest.raises(ValueError, match="add up to 11"):
        random_split(numbered(11), [4, 6])


# Files.


def test_npz_data_set(tmp_path) -> None:
    path = tmp_path / "set.npz"
    np.savez(
        path, images=np.zeros((4, 5, 6), np.uint8), labels=np.array([0, 1, 1, 0], np.uint8), class_names=["a", "b"]
    )
    data = load_dataset(path)
    assert data.arrays[0].shape == (4, 5, 6, 1)
    assert data.labels.dtype == np.int64
    assert data.classes == ("a", "b")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": np.zeros((4, 5, 6), np.uint8)}, "no array labels"),
        ({"images": np.zeros((4, 5, 6), np.uint8), "labels": np.zeros(3, int)}, "equal length"),
        ({"images": np.zeros((4, 5, 6)), "labels": np.zeros(4, int)}, "uint8 images"),
        ({"images": np.zeros((4, 5, 6), np.uint8), "labels": np.zeros(4)}, "integers"),
        ({"images": np.zeros((4, 5, 6), np.uint8), "labels": np.full(4, -1)}, "labels from -1"),
        ({"images": np.array([None]), "labels": np.zeros(1, int)}, "allow_pickle"),
    ],
)
def test_npz_faults_name_the_file(tmp_path, arrays: dict, words: str) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=words) as caught:
        load_dataset(path)
    assert str(path) in str(caught.value)


def test_missing_and_foreign_data_files(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_dataset(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(ValueError, match=r"text\.npz"):
        load_dataset(tmp_path / "text.npz")
    with pytest.raises(ValueError, match="a directory"):
        load_dataset(tmp_path)


def test_read_image_handles_modes(tmp_path) -> None:
    Image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    colour = Image.fromarray(pixels)
    for mode in ("RGB", "L", "P", "1", "CMYK", "RGBA", "LA"):
        path = tmp_path / (f"{mode}.tif" if mode == "CMYK" else f"{mode}.png")
        colour.convert(mode).save(path)
        assert read_image(path).shape == (6, 9, 3)
        assert read_image(path, channels=1).shape == (6, 9, 1)
    np.testing.assert_array_equal(read_image(tmp_path / "RGB.png"), pixels)
    deep = (pixels[:, :, 0].astype(np.uint16) * 257).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png", 1)[:, :, 0], pixels[:, :, 0])
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    assert (read_image(tmp_path / "clear.png") == 255).all()
    turned = Image.fromarray(pixels)
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").shape == (9, 6, 3)


def test_unreadable_images_name_the_file(tmp_path) -> None:
    Image = pytest.importorskip("PIL.Image")
    good = tmp_path / "good.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)).save(good)
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:600])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("no image at all")
    faults = {"cut.png": "damaged", "empty.png": "empty", "text.png": "not an image", "none.png": "no such file"}
    for name, words in faults.items():
        with pytest.raises(ImageError, match=words) as caught:
            read_image(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
    with pytest.raises(ImageError, match="directory"):
        read_image(tmp_path)


def test_digits_survive_being_printed_on_paper() -> None:
    Image = pytest.importorskip("PIL.Image")
    cells = digits().arrays[0][:20, :, :, 0]
    for image in cells:
        stretched = image.astype(float) / image.max() * 255
        for same in (image, 255 - image, np.kron(image, np.ones((5, 5), np.uint8))):
            np.testing.assert_allclose(as_digit(same), stretched, atol=0.51)
        page = np.full((300, 340), 230, np.uint8)
        page[60:220, 90:250] -= (np.asarray(Image.fromarray(image).resize((160, 160))) * 0.8).astype(np.uint8)
        found = as_digit(page)  # centred, which the stored digits are not quite
        shifted = [np.roll(found, shift, axis=1) for shift in (-1, 0, 1)]
        assert max(np.corrcoef(one.ravel(), image.ravel())[0, 1] for one in shifted) > 0.75
    with pytest.raises(ImageError, match="blank"):
        as_digit(np.full((20, 20), 200, np.uint8))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 400), (28, 28)])
def test_as_digit_takes_any_size(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    if image.size == 1:
        with pytest.raises(ImageError):
            as_digit(image)
    else:
        assert as_digit(image).shape == (8, 8)
        assert as_digit(image).max() == 255


def test_resize_is_bilinear_and_antialiased_when_shrinking() -> None:
    image = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1), dtype=np.uint8)
    assert resize(image, (8, 8)) is image
    up = resize(image, (32, 32))
    assert up.shape == (2, 32, 32, 1)
    np.testing.assert_array_equal(up[:, 0, 0], image[:, 0, 0])
    Image = pytest.importorskip("PIL.Image")
    for size in ((32, 32), (4, 4)):
        want = np.asarray(Image.fromarray(image[0, :, :, 0]).resize(size[::-1], Image.Resampling.BILINEAR))
        assert np.abs(resize(image, size)[0, :, :, 0].astype(int) - want).max() <= 1


def test_preprocessing_survives_json() -> None:
    import json

    steps = Preprocessing((32, 24), (0.5, 0.25, 0.1), (0.2, 0.3, 0.4))
    assert Preprocessing.from_dict(json.loads(json.dumps(steps.to_dict()))) == steps
    assert steps.channels == 3
    assert isinstance(steps.normalize(), Normalize)
