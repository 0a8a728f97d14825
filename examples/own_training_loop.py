"""A training loop without a trainer: the five verbs, written out, as one would with PyTorch.

Run:  python examples/own_training_loop.py [--epochs 8]

You see one line per epoch: the mean loss, and the accuracy on digits that were held out (about 97 % at the end).
"""

import argparse

import engine
from engine import nn, optim
from engine.data import ArrayDataset, DataLoader, Normalize, digits, random_split


class Net(nn.Module):
    """Two convolutions and a linear layer, for images of 8 x 8."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(32)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(32 * 2 * 2, 10)

    def forward(self, x: engine.Tensor) -> engine.Tensor:
        x = self.pool(self.norm1(self.conv1(x)).relu())
        x = self.pool(self.norm2(self.conv2(x)).relu())
        return self.fc(x.flatten(1))


def main() -> float:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=8)
    epochs = parser.parse_args().epochs

    engine.manual_seed(0)
    data: ArrayDataset = digits()
    train, test = random_split(data, [0.8, 0.2], seed=0)
    normalize = Normalize((0.3,), (0.37,))
    train_loader = DataLoader(train, batch_size=32, shuffle=True, transform=normalize)
    test_loader = DataLoader(test, batch_size=256, transform=normalize)

    model = Net()
    loss_fn = nn.CrossEntropyLoss()
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    accuracy = 0.0
    for epoch in range(1, epochs + 1):
        model.train()
        total = 0.0
        for images, labels in train_loader:
            outputs = model(images)  # predict
            loss = loss_fn(outputs, labels)  # loss
            loss.backward()  # backward
            optimizer.step()  # step
            optimizer.zero_grad()  # zero_grad
            total += loss.item() * len(images)

        model.eval()
        right = 0
        with engine.no_grad():
            for images, labels in test_loader:
                right += int((model(images).argmax(1) == labels).sum().item())
        accuracy = right / len(test)
        print(f"epoch {epoch}: loss {total / len(train):.4f}, test accuracy {100 * accuracy:.2f} %")
    return accuracy


if __name__ == "__main__":
    main()
