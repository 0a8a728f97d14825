"""Fine-tune a network on a folder of images, a folder per class, from the weights of another task.

Run:  python examples/finetune_folder.py --data-path animals --model resnet18 --weights DEFAULT
      (animals/cat/1.jpg, animals/dog/1.jpg, ...; DEFAULT downloads the weights of ImageNet once)

Without arguments the script makes its own small world: it trains a small ResNet on the digits 0 to 4, each in four
rotations, saves the weights as a .pth file, writes thirty images of each of the digits 5 to 9 into folders, and
fine-tunes on those. You see two epochs, then the accuracy on the digits 5 to 9 that were left: 95 to 97 %.
"""

import argparse
import os
import tempfile

import numpy as np
from PIL import Image

import engine
from engine.cli import main as engine_command
from engine.data import ArrayDataset, Compose, DataLoader, Normalize, RandomCrop, Resize, digits
from engine.train import Trainer

SIZE = 16


def pretrain(path: str) -> None:
    """A small ResNet that knows the digits 0 to 4 in four rotations, as a file that PyTorch could read, too.

    Five classes alone would teach it too little that is of use for others.
    """
    engine.manual_seed(0)
    data = digits()
    low = np.flatnonzero(data.labels < 5)
    images = Resize((SIZE, SIZE))(data.arrays[0][low])
    turned = np.concatenate([np.rot90(images, k, axes=(1, 2)) for k in range(4)])
    classes = np.concatenate([data.labels[low] * 4 + k for k in range(4)])
    steps = Compose([RandomCrop(SIZE, padding=2), Normalize((0.3,), (0.35,))])
    loader = DataLoader(ArrayDataset(turned, classes), batch_size=32, shuffle=True, transform=steps)
    model = engine.models.resnet20(num_classes=20, in_chans=1)
    optimizer = engine.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    schedule = engine.optim.lr_scheduler.CosineAnnealingLR(optimizer, 6)
    Trainer(model, engine.nn.CrossEntropyLoss(), optimizer, scheduler=schedule).fit(loader, epochs=6)
    engine.save_weights(model, path)


def write_folders(root: str, per_class: int) -> None:
    """train, val and test, each with a folder per class."""
    data = digits()
    for label in range(5, 10):
        order = np.random.default_rng(0).permutation(np.flatnonzero(data.labels == label))
        parts = {"train": order[:per_class], "val": order[per_class : per_class + 15], "test": order[per_class + 15 :]}
        for part, indices in parts.items():
            folder = os.path.join(root, part, str(label))
            os.makedirs(folder)
            for i in indices:
                image = Resize((SIZE, SIZE))(data.arrays[0][i])[:, :, 0]
                Image.fromarray(image).save(os.path.join(folder, f"{i}.png"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-path")
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--weights", default="DEFAULT")
    parser.add_argument("--epochs", type=int, help="passes over the images (default: 10; 2 without --data-path)")
    parser.add_argument("--output-dir", default="finetuned")
    arguments = parser.parse_args()
    epochs = arguments.epochs or (2 if arguments.data_path is None else 10)
    words = ["finetune", "--epochs", str(epochs), "--output-dir", arguments.output_dir]
    if arguments.data_path is not None:
        words += ["--data-path", arguments.data_path, "--model", arguments.model, "--weights", arguments.weights]
        return engine_command(words)
    with tempfile.TemporaryDirectory() as folder:
        weights, images = os.path.join(folder, "zero-to-four.pth"), os.path.join(folder, "five-to-nine")
        pretrain(weights)
        write_folders(images, 30)
        words += ["--data-path", images, "--model", "resnet20", "--weights", weights, "--img-size", str(SIZE)]
        words += ["--in-chans", "1", "--mean", "0.3", "--std", "0.35", "--crop-pct", "1", "--no-aug"]
        words += ["--lr", "0.003", "--freeze-epochs", "0", "--unfreeze-every", "0", "--layer-decay", "1", "-b", "8"]
        return engine_command(words)


if __name__ == "__main__":
    raise SystemExit(main())
