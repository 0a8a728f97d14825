"""ResNet-20 on CIFAR-10, from the files that the data set is distributed as.

Run:  python examples/resnet_cifar10.py --data-path cifar-10-batches-bin [--epochs 30]

Get "CIFAR-10 binary version" from https://www.cs.toronto.edu/~kriz/cifar.html and unpack it. Without --data-path the
script writes files of the same format with a few hundred made-up images (a coloured bar per class) into a temporary
folder and learns those. You see loss and accuracy per epoch, then the test accuracy: on made-up images nearly all are
right after 4 epochs; on CIFAR-10 about 91 % after 100 epochs, at some minutes per epoch and core.
"""

import argparse
import os
import tempfile

import numpy as np

import engine
from engine import nn, optim
from engine.callbacks import Progress
from engine.data import ArrayDataset, Compose, DataLoader, Normalize, RandomCrop, RandomHorizontalFlip
from engine.train import Trainer

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TRAIN = [f"data_batch_{number}.bin" for number in range(1, 6)]


def read(folder: str, names: list[str]) -> ArrayDataset:
    """Each image of a file is 1 byte of label and 3 x 32 x 32 bytes: red, green, blue, row by row."""
    records = np.concatenate([np.fromfile(os.path.join(folder, name), np.uint8).reshape(-1, 3073) for name in names])
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return ArrayDataset(np.ascontiguousarray(images), records[:, 0].astype(np.int64), classes=CLASSES)


def make_up(folder: str, per_file: int) -> None:
    """Files of the format of CIFAR-10: for each class a bar of its own colour, lying or standing, on noise."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:32, :32]
    for name in [*TRAIN, "test_batch.bin"]:
        records = np.empty((per_file, 3073), np.uint8)
        records[:, 0] = np.arange(per_file) % 10
        for record in records:
            colour, standing = divmod(int(record[0]), 2)
            bar = abs((columns if standing else rows) - generator.normal(15.5, 3)) < 5
            image = generator.integers(0, 100, (3, 32, 32))
            for channel, lit in enumerate(((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1))[colour]):
                image[channel] += 150 * lit * bar
            record[1:] = image.reshape(-1)
        records[generator.permutation(per_file)].tofile(os.path.join(folder, name))


def main() -> float:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-path", help="the folder with data_batch_1.bin and the others")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=16)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.data_path is None:
            make_up(folder, 60)
        place = arguments.data_path or folder
        train, test = read(place, TRAIN), read(place, ["test_batch.bin"])

    engine.manual_seed(0)
    normalize = Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
    steps = [RandomCrop(32, padding=4), RandomHorizontalFlip(), normalize]
    train_loader = DataLoader(train, arguments.batch_size, shuffle=True, transform=Compose(steps), num_workers=1)
    test_loader = DataLoader(test, 256, transform=normalize)

    model = engine.models.resnet20(num_classes=len(CLASSES))
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    trainer = Trainer(
        model,
        nn.CrossEntropyLoss(),
        optimizer,
        scheduler=optim.lr_scheduler.OneCycleLR(
            optimizer, 0.1, epochs=arguments.epochs, steps_per_epoch=len(train_loader)
        ),
        scheduler_interval="batch",
        callbacks=[Progress(bar=False)],
    )
    trainer.fit(train_loader, test_loader, arguments.epochs)
    result = trainer.evaluate(test_loader)
    print(f"test accuracy {100 * result.accuracy:.2f} % of {result.samples} images")
    return result.accuracy


if __name__ == "__main__":
    main()
