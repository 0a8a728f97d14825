"""Fine-tune a network on a folder of images, a folder per class, from the weights of another task.

Run:  python examples/finetune_folder.py --data-path animals --model resnet18 --weights DEFAULT
      (animals/cat/1.jpg, animals/dog/1.jpg, ...; DEFAULT downloads the weights of ImageNet once)

Without arguments the script makes its own small world: it trains a small ResNet on the digits 0 to 4, saves the weights
as a .pth file, writes thirty images of each of the digits 5 to 9 into folders, and fine-tunes on those. You see the
head learn first, then all layers; at the end the accuracy on the digits 5 to 9 that were left, about 97 %.
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
    """A small ResNet that knows the digits 0 to 4, as a file that PyTorch could read, too."""
    engine.manual_seed(0)
    data = digits()
    low = np.flatnonzero(data.labels < 5)
    images = Resize((SIZE, SIZE))(data.arrays[0][low])
    steps = Compose([RandomCrop(SIZE, padding=2), Normalize((0.3,), (0.35,))])
    loader = DataLoader(ArrayDataset(images, data.labels[low]), batch_size=32, shuffle=True, transform=steps)
    model = engine.models.resnet20(num_classes=5, in_chans=1)
    optimizer = engine.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    schedule = engine.optim.lr_scheduler.CosineAnnealingLR(optimizer, 8)
    Trainer(model, engine.nn.CrossEntropyLoss(), optimizer, scheduler=schedule).fit(loader, epochs=8)
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
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--output-dir", default="finetuned")
    arguments = parser.parse_args()
    words = ["finetune", "--epochs", str(arguments.epochs), "--output-dir", arguments.output_dir]
    if arguments.data_path is not None:
        words += ["--data-path", arguments.data_path, "--model", arguments.model, "--weights", arguments.weights]
        return engine_command(words)
    with tempfile.TemporaryDirectory() as folder:
        weights, images = os.path.join(folder, "zero-to-four.pth"), os.path.join(folder, "five-to-nine")
        pretrain(weights)
        write_folders(images, 30)
        words += ["--data-path", images, "--model", "resnet20", "--weights", weights, "--img-size", str(SIZE)]
        words += ["--in-chans", "1", "--mean", "0.3", "--std", "0.35", "--crop-pct", "1", "--no-aug"]
        words += ["--lr", "0.01", "--freeze-epochs", "2", "--unfreeze-every", "0", "--layer-decay", "0.8", "-b", "8"]
        return engine_command(words)


if __name__ == "__main__":
    raise SystemExit(main())
