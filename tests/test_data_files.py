"""Images in files: decoding, data sets of files, damage, duplicates."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision_models import import_torchvision, needs_torchvision

from engine.data import (
    ArrayDataset,
    Compose,
    ConcatDataset,
    CSVDataset,
    DataLoader,
    Dataset,
    ImageError,
    ImageFiles,
    ImageFolder,
    LeakageError,
    Normalize,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Subset,
    decode,
    decode_image,
    find_leaks,
    read_image,
    split_dataset,
)

Image = pytest.importorskip("PIL.Image")


def picture(height: int = 24, width: int = 31, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def encoded(pixels: np.ndarray, kind: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def exif(orientation: int, order: str = "<", tag: int = 0x0112, kind: int = 3) -> bytes:
    head = b"II*\0" if order == "<" else b"MM\0*"
    entries = [(0x0100, 4, 1, 7), (tag, kind, 1, orientation)]
    body = struct.pack(order + "H", len(entries))
    for number, form, count, value in entries:
        packed = struct.pack(order + "HH", value, 0) if form == 3 else struct.pack(order + "I", value)
        body += struct.pack(order + "HHI", number, form, count) + packed
    return b"Exif\0\0" + head + struct.pack(order + "I", 8) + body + b"\0\0\0\0"


# ---- decoding


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"quality": 30},
        {"subsampling": 0},
        {"subsampling": 1},
        {"progressive": True},
        {"restart_marker_blocks": 2},
        {"comment": b"hello"},
    ],
)
@pytest.mark.parametrize("size", [(24, 31), (17, 16), (1, 1), (8, 65)])
def test_both_decoders_give_the_same_pixels(channels: int, options: dict, size: Any) -> None:
    pytest.importorskip("simplejpeg")
    grey = picture(*size)[..., 0]
    for data in (encoded(picture(*size), **options), encoded(grey, **options)):
        assert decode._plain_jpeg(data) is not None
        fast = decode_image(data, channels)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(decode, "_simplejpeg", lambda: None)
            slow = decode_image(data, channels)
        np.testing.assert_array_equal(fast, slow)
        assert fast.shape == (*size, channels)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(10))
def test_exif_orientation_is_pillows(orientation: int, order: str) -> None:
    from PIL import ImageOps

    data = encoded(picture(), exif=exif(orientation, order))
    want = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(decode_image(data), want)
    header = decode._plain_jpeg(data)
    assert header is None if orientation in (0, 9) else header is not None and header.orientation == orientation


def test_headers_that_are_left_to_pillow() -> None:
    plain = encoded(picture())
    assert decode._plain_jpeg(plain) == (24, 31, 3, 1)
    assert decode._plain_jpeg(encoded(picture(), exif=exif(6, tag=0x0101))) == (24, 31, 3, 1)
    xmp = b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="6"/>'
    segment = b"\xff\xe1" + struct.pack(">H", len(xmp) + 2) + xmp
    left = {
        "cmyk": _cmyk(),
        "png": encoded(picture(), "PNG"),
        "xmp": plain[:2] + segment + plain[2:],
        "long": encoded(picture(), exif=exif(3, kind=4)),
        "cut": plain[:100],
        "cut within exif": plain[:2] + b"\xff\xe1\x00\x0cExif\0\0II*\0" + plain[2:],
    }
    for name, data in left.items():
        assert decode._plain_jpeg(data) is None, name
    np.testing.assert_array_equal(decode_image(left["xmp"]).shape[:2], np.asarray(_pillow(left["xmp"])).shape[:2])
    assert decode_image(left["cmyk"]).shape == (24, 31, 3)
    for cut in range(0, len(plain) - 2, 7):
        with pytest.raises(ImageError):
            decode_image(plain[:cut])


def _cmyk() -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture()).convert("CMYK").save(file, "JPEG")
    return file.getvalue()


def _pillow(data: bytes) -> Any:
    from PIL import ImageOps

    return ImageOps.exif_transpose(Image.open(io.BytesIO(data)))


def test_the_first_frame_of_an_animation_is_taken() -> None:
    frames = [Image.fromarray(picture(seed=seed)).quantize(64) for seed in range(3)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decode_image(file.getvalue()), np.asarray(frames[0].convert("RGB")))


def test_a_decompression_bomb_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    Image.new("L", (300, 300)).save(path)
    (tmp_path / "bomb.jpg").write_bytes(encoded(picture(300, 300)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40_000)
    for name in ("bomb.png", "bomb.jpg"):
        with pytest.raises(ImageError, match=rf"{name}: .*90000 pixels.*MAX_IMAGE_PIXELS"):
            read_image(tmp_path / name)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert read_image(path, 1).shape == (300, 300, 1)


def test_a_smaller_scale_is_taken_only_on_request(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    path.write_bytes(encoded(picture(240, 310)))
    assert read_image(path).shape == (240, 310, 3)
    assert read_image(path, min_size=(50, 60)).shape == (60, 78, 3)
    assert read_image(path, min_size=(200, 60)).shape == (240, 310, 3)


# ---- data sets


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes of 4, 3 and 2 images of different sizes and kinds."""
    for number, (name, count) in enumerate({"cat": 4, "dog": 3, "eel": 2}.items()):
        (tmp_path / "all" / name / "deep").mkdir(parents=True)
        for i in range(count):
            pixels = picture(20 + 3 * i, 30 - 2 * i, seed=10 * number + i)
            place = tmp_path / "all" / name / ("deep" if i == 1 else "")
            kind = "JPEG" if i % 2 == 0 else "PNG"
            (place / f"{i}.{'JPG' if kind == 'JPEG' else 'png'}").write_bytes(encoded(pixels, kind))
        (tmp_path / "all" / name / "notes.txt").write_text("not an image")
    return tmp_path / "all"


def test_image_folder_has_a_class_for_each_folder(folder: Path) -> None:
    data = ImageFolder(folder)
    assert data.classes == ("cat", "dog", "eel")
    assert data.class_to_idx == {"cat": 0, "dog": 1, "eel": 2}
    assert data.targets == [0] * 4 + [1] * 3 + [2] * 2
    assert len(data) == 9
    assert all(os.path.isfile(path) for path, _ in data.samples)
    assert data.imgs == data.samples
    image, label = data[5]
    assert image.dtype == np.uint8
    assert label == 1
    assert ImageFolder(folder, channels=1)[0][0].shape[2] == 1
    doubled = ImageFolder(folder, transform=lambda image: image.shape, target_transform=lambda label: 2 * label)
    assert doubled[8] == ((23, 28, 3), 4)
    only = ImageFolder(folder, is_valid_file=lambda path: path.endswith("0.JPG"), loader=os.path.basename)
    assert [only[i] for i in range(3)] == [("0.JPG", 0), ("0.JPG", 1), ("0.JPG", 2)]


@needs_torchvision
def test_image_folder_is_torchvisions(folder: Path) -> None:
    import_torchvision()
    from torchvision.datasets import ImageFolder as Theirs

    data, theirs = ImageFolder(folder), Theirs(str(folder))
    assert theirs.samples == data.samples
    for i in range(len(data)):
        np.testing.assert_array_equal(data[i][0], np.asarray(theirs[i][0]))


def test_folders_without_images_are_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "fox").mkdir()
    (folder / "gnu").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no image .* of class fox, gnu"):
        ImageFolder(folder)
    data = ImageFolder(folder, allow_empty=True)
    assert data.classes == ("cat", "dog", "eel", "fox", "gnu")
    assert len(data) == 9
    with pytest.raises(FileNotFoundError, match="no folders in it"):
        ImageFolder(folder / "fox")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        ImageFolder(tmp_path / "none")


def test_hidden_files_and_folders_are_no_samples(folder: Path) -> None:
    before = ImageFolder(folder).samples
    for name in (".ipynb_checkpoints", "cat/.thumbnails"):
        (folder / name).mkdir()
        (folder / name / "1.png").write_bytes(encoded(picture(seed=99), "PNG"))
    (folder / "cat" / "._0.JPG").write_bytes(b"not an image")
    data = ImageFolder(folder)
    assert data.classes == ("cat", "dog", "eel")
    assert data.samples == before


def test_a_class_of_one_image_cannot_be_in_every_part(folder: Path) -> None:
    (folder / "fox").mkdir()
    (folder / "fox" / "1.png").write_bytes(encoded(picture(seed=99), "PNG"))
    with pytest.raises(ValueError, match="at least 3 samples of every class for 3 parts, got 2 of class 2"):
        split_dataset(ImageFolder(folder))
    with pytest.raises(ValueError, match="got 1 of class 3"):
        split_dataset(ImageFolder(folder), (0.5, 0.5))


def test_csv_data_set(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text('\ufefffile,kind,extra\nall/cat/0.JPG,cat,1\n"all/dog/0.JPG", dog ,2\n\nall/cat/2.JPG,cat,3\n')
    data = CSVDataset(table, path_column="file", label_column="kind")
    assert data.classes == ("cat", "dog")
    assert data.targets == [0, 1, 0]
    np.testing.assert_array_equal(data[1][0], read_image(folder / "dog" / "0.JPG"))
    table.write_text("path;label\n0.JPG;10\n2.JPG;9\n")
    numbers = CSVDataset(table, root=folder / "cat", delimiter=";")
    assert numbers.classes == ("9", "10")
    assert numbers.targets == [1, 0]
    fixed = CSVDataset(table, root=folder / "cat", delimiter=";", classes=("8", "9", "10"))
    assert fixed.targets == [2, 1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,label\na,b\n", "no column path in its first row, only file, label"),
        ("", "no column path and label in its first row, only nothing"),
        ("path,label\na\n", "line 2: expected 2 values, got 1"),
        ("path,label\na,b\n,c\n", "line 3: no path"),
        ("path,label\na,\n", "line 2: no label"),
        ('path,label\n"a,b\n', "not a table in CSV"),
    ],
)
def test_faults_of_tables_name_the_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a").write_bytes(encoded(picture()))
    table = tmp_path / "table.csv"
    table.write_text(text)
    with pytest.raises(ValueError, match=words) as caught:
        CSVDataset(table)
    assert str(table) in str(caught.value)


def test_missing_files_and_unknown_labels_of_tables_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded(picture()))
    table = tmp_path / "table.csv"
    table.write_text("path,label\na.jpg,cat\nb.jpg,dog\n")
    with pytest.raises(FileNotFoundError, match=r"1 of 2 files are missing, the first: .*b\.jpg \(line 3\)"):
        CSVDataset(table)
    with pytest.raises(ValueError, match="line 3: label 'dog' is none of the 1 classes cat"):
        CSVDataset(table, classes=("cat",))
    with pytest.raises(FileNotFoundError, match="no such file"):
        CSVDataset(tmp_path / "none.csv")


def test_one_label_per_file() -> None:
    with pytest.raises(ValueError, match="got 1 labels for 2 files"):
        ImageFiles(["a", "b"], [0], ("x",))
    with pytest.raises(ValueError, match=r"labels in 0\.\.0 for 1 class names, got labels from 0 to 1"):
        ImageFiles(["a", "b"], [0, 1], ("x",))
    with pytest.raises(ValueError, match="every class name once"):
        ImageFiles([], [], ("x", "x"))


# ---- the loader over files


def augment(channels: int = 3) -> Compose:
    return Compose([RandomResizedCrop(8), RandomHorizontalFlip(), Normalize((0.5,) * channels, (0.25,) * channels)])


def batches_of(loader: DataLoader) -> list[tuple[np.ndarray, list[int]]]:
    return [(images.numpy().copy(), labels.numpy().tolist()) for images, labels in loader]


@pytest.mark.parametrize("where", ["loader", "data set"])
def test_augmentation_of_files_is_a_function_of_seed_epoch_and_sample(folder: Path, where: str) -> None:
    inside = {"transform": augment()} if where == "data set" else {}
    outside = {"transform": augment()} if where == "loader" else {}
    data = ImageFolder(folder, **inside)

    def run(num_workers: int, batch_size: int, epoch: int = 1) -> np.ndarray:
        loader = DataLoader(data, batch_size, shuffle=True, num_workers=num_workers, seed=4, **outside)
        loader.set_epoch(epoch)
        return np.concatenate([images for images, _ in batches_of(loader)])

    want = run(0, 4)
    assert want.shape == (9, 3, 8, 8)
    for num_workers, batch_size in ((1, 4), (3, 4), (2, 9), (0, 1)):
        np.testing.assert_array_equal(run(num_workers, batch_size), want)
    assert not np.array_equal(run(0, 4, epoch=2), want)
    images = next(iter(DataLoader(data, 4, **outside)))[0]
    assert images.numpy().transpose(0, 2, 3, 1).flags.c_contiguous


def test_subsets_and_concatenations_pass_random_numbers_on(folder: Path) -> None:
    data = ImageFolder(folder, transform=augment())
    both = ConcatDataset([Subset(data, [3, 1]), data])
    assert both.classes == data.classes
    assert both.labels.tolist() == [0, 0, *data.targets]
    images = batches_of(DataLoader(both, 20, seed=1))[0][0]
    assert not np.array_equal(images[1], images[3])  # sample 1 and sample 3 are the same file, with other numbers
    np.testing.assert_array_equal(both[1][0], data[1][0])  # without a loader: as in evaluation


def test_the_loader_and_the_data_set_may_share_the_work(folder: Path) -> None:
    data = ImageFolder(folder, transform=RandomResizedCrop(8))
    images, _ = next(iter(DataLoader(data, 4, transform=Normalize((0.5,) * 3, (0.25,) * 3))))
    assert images.shape == (4, 3, 8, 8)
    whole = DataLoader(data, 4, transform=lambda images, random: images[:, :2])
    assert next(iter(whole))[0].shape == (4, 2, 8, 3)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_damaged_files_are_raised_skipped_or_replaced(folder: Path, num_workers: int) -> None:
    data = ImageFolder(folder)
    bad = data.paths[2]
    Path(bad).write_bytes(Path(bad).read_bytes()[:200])
    options: dict[str, Any] = {"batch_size": 3, "num_workers": num_workers, "transform": augment(), "seed": 2}
    with pytest.raises(ImageError, match=r"\[ImageFolder\] sample 2: .*damaged or unreadable") as caught:
        list(DataLoader(data, **options))
    assert bad in str(caught.value)
    assert (caught.value.path, caught.value.index) == (bad, 2)

    skipping = DataLoader(data, on_error="skip", **options)
    batches = batches_of(skipping)
    assert [labels for _, labels in batches] == [[0, 0], [0, 1, 1], [1, 2, 2]]
    assert list(skipping.damaged) == [2]
    assert bad in skipping.damaged[2]

    replacing = DataLoader(data, on_error="replace", shuffle=True, **options)
    batches = batches_of(replacing)
    assert [len(images) for images, _ in batches] == [3, 3, 3]
    again = batches_of(DataLoader(data, on_error="replace", shuffle=True, **options))
    for (images, labels), (same, too) in zip(batches, again, strict=True):
        np.testing.assert_array_equal(images, same)
        assert labels == too

    for path in data.paths[:3]:
        Path(path).write_bytes(b"nothing")
    assert [len(labels) for _, labels in batches_of(DataLoader(data, on_error="skip", **options))] == [3, 3]
    for path in data.paths:
        Path(path).write_bytes(b"nothing")
    with pytest.raises(ImageError, match="sample 0 cannot be replaced: 10 others"):
        list(DataLoader(data, on_error="replace", **options))


def test_only_damage_is_skipped() -> None:
    class Wrong(Dataset):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> Any:
            if index == 1:
                raise OSError("disk on fire")
            if index == 2:
                raise KeyError("a mistake")
            return index

    with pytest.raises(ImageError, match=r"\[DataLoader\] sample 1: disk on fire"):
        list(DataLoader(Wrong()))
    with pytest.raises(KeyError, match="a mistake"):
        list(DataLoader(Wrong(), on_error="skip"))
    with pytest.raises(ValueError, match="on_error"):
        DataLoader(Wrong(), on_error="ignore")


def test_images_of_different_sizes_do_not_make_a_batch(folder: Path) -> None:
    with pytest.raises(ValueError, match="one shape in a batch"):
        list(DataLoader(ImageFolder(folder), 4))
    with pytest.raises(ValueError, match="expected images of one shape in a batch"):
        list(DataLoader(ImageFolder(folder), 4, transform=Normalize((0.5,) * 3, (0.25,) * 3)))
    with pytest.raises(ValueError, match="expected 1 channels"):
        list(DataLoader(ImageFolder(folder), 4, transform=augment(1)))


# ---- leakage


def test_duplicates_across_parts_are_named(folder: Path, tmp_path: Path) -> None:
    data = ImageFolder(folder)
    other = tmp_path / "more" / "cat"
    other.mkdir(parents=True)
    (other / "copy.jpg").write_bytes(Path(data.paths[0]).read_bytes())
    (other / "link.jpg").symlink_to(data.paths[2])
    same_size = bytearray(Path(data.paths[0]).read_bytes())
    same_size[-3] ^= 1
    (other / "changed.jpg").write_bytes(bytes(same_size))
    more = ImageFolder(tmp_path / "more")
    leaks = find_leaks({"train": data, "test": more})
    assert [(leak.first, leak.second) for leak in leaks] == [
        (data.paths[0], str(other / "copy.jpg")),
        (data.paths[2], str(other / "link.jpg")),
    ]
    assert str(leaks[0]) == f"{data.paths[0]} (train) = {other / 'copy.jpg'} (test)"
    assert find_leaks([Subset(data, range(4)), Subset(data, range(4, 9))]) == []
    assert len(find_leaks([data, Subset(data, [3]), Subset(data, [4])])) == 2
    with pytest.raises(ValueError, match="two or three parts"):
        find_leaks([data])

    both = ConcatDataset([data, more])
    with pytest.raises(LeakageError, match="2 pairs of samples with the same content") as caught:
        split_dataset(both, (0.5, 0.5))
    assert str(other / "copy.jpg") in str(caught.value)
    assert caught.value.leaks[1] == (data.paths[2], str(other / "link.jpg"))
    for seed in range(10):
        parts = split_dataset(both, (0.5, 0.5), seed, duplicates="together")
        assert sorted(np.concatenate([part.indices for part in parts]).tolist()) == list(range(len(both)))
        assert find_leaks(parts) == []
    assert any(find_leaks(split_dataset(both, (0.5, 0.5), seed, duplicates="allow")) for seed in range(10))
    with pytest.raises(ValueError, match="duplicates"):
        split_dataset(both, duplicates="maybe")


def test_split_dataset_is_stratified_and_repeatable() -> None:
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    data = ArrayDataset(np.arange(100)[:, None], labels)
    train, val, test = split_dataset(data, (0.6, 0.2, 0.2), seed=3)
    assert np.bincount(train.labels).tolist() == [30, 18, 12]
    assert np.bincount(test.labels).tolist() == [10, 6, 4]
    again = split_dataset(data, (0.6, 0.2, 0.2), seed=3)
    assert all((one.indices == two.indices).all() for one, two in zip((train, val, test), again, strict=True))
    twice = ArrayDataset(np.zeros((4, 2)), np.zeros(4, int))
    with pytest.raises(LeakageError, match="sample 0 = sample 1, sample 0 = sample 2"):
        split_dataset(twice, (0.5, 0.5))
