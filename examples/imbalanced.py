"""Classes of very different sizes: what weights of the loss and balanced sampling do for the rare ones.

Run:  python examples/imbalanced.py [--epochs 10]

Of the digits 0 to 4 all are kept, of 5 to 9 only one in twelve. You see, for each of four ways to train, the accuracy
and the mean recall of the frequent and of the rare classes on a balanced test. Plain training neglects the rare ones.
"""

import argparse

import numpy as np

import engine
from engine import metrics, nn, optim
from engine.cli.training import Balanced
from engine.data import Compose, DataLoader, Normalize, RandomCrop, Resize, Subset, digits, stratified_split
from engine.train import Trainer


def main() -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10)
    epochs = parser.parse_args().epochs

    data = digits()
    keep, test = stratified_split(data.labels, (0.75, 0.25), seed=0)
    rare = data.labels[keep] >= 5
    kept = np.sort(np.concatenate([keep[~rare], keep[rare][::12]]))
    train = Subset(data, kept)
    counts = np.bincount(train.labels)
    print("images per class:", counts.tolist())
    steps = [Resize((32, 32)), Normalize((0.3,), (0.37,))]
    test_loader = DataLoader(Subset(data, test), batch_size=256, transform=Compose(steps))
    weights = engine.tensor((counts.sum() / (len(counts) * counts)).astype(np.float32))

    found = {}
    for name in ("plain", "class weights", "weighted sampling", "over-sampling"):
        engine.manual_seed(0)
        sampler = None
        if name.endswith("sampling"):
            sampler = Balanced(train.labels, "weighted" if name.startswith("weighted") else "over", seed=0)
        shifted = Compose([steps[0], RandomCrop(32, padding=2), steps[1]])
        loader = DataLoader(train, batch_size=32, shuffle=sampler is None, sampler=sampler, transform=shifted)
        model = engine.models.lenet5()
        loss_fn = nn.CrossEntropyLoss(weights if name == "class weights" else None)
        trainer = Trainer(model, loss_fn, optim.Adam(model.parameters(), lr=0.001))
        trainer.fit(loader, epochs=epochs)
        result = trainer.evaluate(test_loader)
        recall = metrics.recall(result.targets, result.predictions, average=None)
        found[name] = float(recall[5:].mean())
        print(
            f"{name:<18} accuracy {100 * result.accuracy:5.1f} %   recall of frequent classes "
            f"{100 * recall[:5].mean():5.1f} %, of rare ones {100 * recall[5:].mean():5.1f} %"
        )
    return found


if __name__ == "__main__":
    main()
