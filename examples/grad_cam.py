"""Where a network looks: Grad-CAM and saliency of a LeNet-5 that has just learned digits, and its filters.

Run:  python examples/grad_cam.py [--output grad_cam] [--epochs 6]

You find four pictures in the output folder: each digit beside the regions that spoke for its class (grad_cam.png), the
pixels that its score reacts to (saliency.png), the first filters, and the feature maps of one digit.
"""

import argparse
import os

import numpy as np

import engine
from engine import interpret, nn, optim, plots
from engine.data import Compose, DataLoader, Normalize, Resize, digits
from engine.train import Trainer


def main() -> list[str]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="grad_cam")
    parser.add_argument("--epochs", type=int, default=6)
    arguments = parser.parse_args()
    os.makedirs(arguments.output, exist_ok=True)

    engine.manual_seed(0)
    data = digits()
    steps = Compose([Resize((32, 32)), Normalize((0.3,), (0.37,))])
    model = engine.models.lenet5()
    trainer = Trainer(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=0.002))
    trainer.fit(DataLoader(data, batch_size=64, shuffle=True, transform=steps), epochs=arguments.epochs)

    first = [int(np.flatnonzero(data.labels == digit)[0]) for digit in range(9)]
    images = Resize((32, 32))(data.arrays[0][first])
    inputs = steps(data.arrays[0][first])
    likely = engine.softmax(model.eval()(engine.from_numpy(inputs)), 1).detach().numpy()
    titles = [f"is {data.labels[i]}, said {row.argmax()} ({row.max():.0%})" for i, row in zip(first, likely)]

    def path(name: str) -> str:
        return os.path.join(arguments.output, f"{name}.png")

    # The last convolution's maps are larger before the pooling that ends the body.
    plots.heat_maps(images, interpret.grad_cam(model, inputs, layer="features.4"), path("grad_cam"), titles)
    plots.heat_maps(images, interpret.saliency(model, inputs, samples=16), path("saliency"), titles)
    plots.filters(interpret.first_filters(model), path("filters"))
    maps = interpret.activations(model, inputs[3:4], ["features.1"])["features.1"][0]
    plots.feature_maps(maps, path("feature_maps"))
    written = sorted(os.path.join(arguments.output, name) for name in os.listdir(arguments.output))
    print("\n".join(written))
    return written


if __name__ == "__main__":
    main()
