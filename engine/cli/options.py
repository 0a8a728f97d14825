"""The options that training commands share, named as in torchvision's and timm's training scripts."""

from __future__ import annotations

import argparse

from engine.cli.arguments import add_threads, integer, number, share

OPTIMIZERS = ("adagrad", "adam", "adamw", "rmsprop", "sgd", "sgd_nesterov")
# torchvision's and timm's names for the same thing.
SCHEDULERS = {
    "cosine": "cosine",
    "cosineannealinglr": "cosine",
    "step": "step",
    "steplr": "step",
    "multistep": "multistep",
    "multisteplr": "multistep",
    "exponential": "exponential",
    "exponentiallr": "exponential",
    "poly": "poly",
    "polynomiallr": "poly",
    "plateau": "plateau",
    "onecycle": "onecycle",
    "constant": "constant",
    "none": "constant",
}
AUTO_AUGMENTS = ("imagenet", "ra", "ta_wide")
SAMPLERS = ("weighted", "over", "under")


def add_data(parser: argparse.ArgumentParser, default: str | None = "digits") -> None:
    """Adds what says where the images are and how they are brought to the model's size."""
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data-path",
        "--data-dir",
        default=default,
        required=default is None,
        metavar="PATH",
        help="a folder with a folder of images per class, or with such folders train, val and test; a folder with the "
        'files of CIFAR-10, CIFAR-100 or MNIST; a .csv file; an .npz file with images and labels; "digits"',
    )
    group.add_argument(
        "--val-fraction", type=number(0, 1, True), default=0.15, metavar="F", help="share for validation"
    )
    group.add_argument("--test-fraction", type=number(0, 1, True), default=0.15, metavar="F", help="share for the test")
    group.add_argument(
        "--duplicates",
        choices=("raise", "together", "allow"),
        default="raise",
        help="images with the same content, which could be trained on and tested on: refuse them, keep them in one "
        "part, or do not look (default: raise)",
    )
    group.add_argument(
        "--num-classes", type=integer(1), metavar="N", help="outputs of the model (default: the classes)"
    )
    group.add_argument("--in-chans", type=int, choices=(1, 3), metavar="C", help="1 for grey, 3 for colour images")
    group.add_argument(
        "--img-size",
        "--train-crop-size",
        type=integer(1),
        metavar="N",
        help="input height and width (default: by model)",
    )
    group.add_argument(
        "--crop-pct", type=number(0, 1.0001, True), metavar="P", help="in evaluation: share of the shorter side to keep"
    )
    group.add_argument(
        "--interpolation", choices=("bilinear", "bicubic"), default="bilinear", help="how images are resized"
    )
    group.add_argument(
        "--mean", type=float, nargs="+", metavar="M", help="per channel (default: the weights' or data's)"
    )
    group.add_argument("--std", type=number(0, open_low=True), nargs="+", metavar="S", help="likewise")
    group.add_argument(
        "-j", "--workers", type=integer(0), default=0, metavar="N", help="threads that prepare batches ahead"
    )


def add_augmentation(parser: argparse.ArgumentParser) -> None:
    """Adds what happens to training images at random."""
    group = parser.add_argument_group("augmentation")
    group.add_argument("--no-aug", action="store_true", help="train on the images as they are evaluated")
    group.add_argument(
        "--crop",
        choices=("resized", "padded", "none"),
        help="random crop: of random size and form, or shifted (default: by data)",
    )
    group.add_argument(
        "--scale", type=number(0, 1.0001, True), nargs=2, default=[0.08, 1.0], metavar=("LOW", "HIGH"),
        help="share of the area that resized crops keep",
    )  # fmt: skip
    group.add_argument(
        "--ratio", type=number(0, open_low=True), nargs=2, default=[0.75, 4 / 3], metavar=("LOW", "HIGH"),
        help="width to height of resized crops",
    )  # fmt: skip
    group.add_argument("--hflip", type=share, metavar="P", help="share mirrored (default: 0.5; 0 for digits)")
    group.add_argument("--vflip", type=share, default=0.0, metavar="P", help="share turned upside down")
    group.add_argument("--rotation", type=number(0), default=0.0, metavar="DEGREES", help="rotate by up to so much")
    group.add_argument(
        "--color-jitter", type=number(0), nargs="+", default=[0.0], metavar="F",
        help="change of brightness, contrast and saturation; or one number for each, and one for hue",
    )  # fmt: skip
    group.add_argument("--auto-augment", "--aa", choices=AUTO_AUGMENTS, help="a policy of several operations")
    group.add_argument("--ra-magnitude", type=integer(0), default=9, metavar="N", help="strength of --auto-augment ra")
    group.add_argument("--random-erase", "--reprob", type=share, default=0.0, metavar="P", help="share partly erased")
    group.add_argument("--mixup-alpha", "--mixup", type=number(0), default=0.0, metavar="A", help="blend pairs; 0: not")
    group.add_argument("--cutmix-alpha", "--cutmix", type=number(0), default=0.0, metavar="A", help="paste; 0: not")


def add_balance(parser: argparse.ArgumentParser) -> None:
    """Adds what makes up for classes of different sizes."""
    group = parser.add_argument_group("class imbalance")
    group.add_argument("--class-weights", choices=("balanced",), help="weigh the loss against the classes' frequencies")
    group.add_argument(
        "--sampler",
        choices=SAMPLERS,
        help="draw by inverse frequency, repeat rare classes, or leave out of frequent ones",
    )


def add_model(parser: argparse.ArgumentParser, default: str) -> None:
    """Adds the choice of model and weights."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        metavar="NAME",
        help=f"a name of engine models (default: that of a checkpoint in --weights, or {default})",
    )
    group.add_argument(
        "--weights", metavar="W", help="begin with these: a name such as IMAGENET1K_V1 or DEFAULT, or a file"
    )
    group.add_argument("--pretrained", action="store_true", help="the same as --weights DEFAULT")
    group.add_argument("--drop", type=number(0, 1), metavar="P", help="probability of the model's dropout layers")


def add_optimization(parser: argparse.ArgumentParser, *, opt: str, epochs: int, batch_size: int) -> None:
    """Adds what training commands have in common."""
    group = parser.add_argument_group("optimization")
    group.add_argument("--epochs", type=integer(1), default=epochs, metavar="N", help="passes over the training part")
    group.add_argument("-b", "--batch-size", type=integer(1), default=batch_size, metavar="N", help="images per step")
    group.add_argument("--opt", choices=OPTIMIZERS, default=opt, help="optimizer")
    group.add_argument("--lr", type=number(0, open_low=True), metavar="RATE", help="learning rate (default: by --opt)")
    group.add_argument("--momentum", type=number(0, 1), default=0.9, metavar="M", help="of sgd and rmsprop")
    group.add_argument(
        "--label-smoothing", "--smoothing", type=number(0, 1), default=0.1, metavar="S", help="of the loss"
    )
    group.add_argument(
        "--clip-grad-norm",
        "--clip-grad",
        type=number(0, open_low=True),
        metavar="L",
        help="largest norm of the gradients",
    )
    group.add_argument(
        "--accumulate", "--grad-accum-steps", type=integer(1), default=1, metavar="N", help="batches per update"
    )
    group.add_argument("--model-ema", action="store_true", help="keep and judge a moving average of the weights")
    group.add_argument("--model-ema-decay", type=number(0, 1, True), default=0.999, metavar="D", help="its decay")


def add_weight_decay(parser: argparse.ArgumentParser, default: float) -> None:
    """Adds the penalty on weights."""
    group = parser.add_argument_group("weight decay")
    group.add_argument(
        "--weight-decay", "--wd", type=number(0), default=default, metavar="W", help="factor of the penalty"
    )
    group.add_argument(
        "--norm-weight-decay", type=number(0), metavar="W", help="another factor for norms and biases, such as 0"
    )


def add_schedule(parser: argparse.ArgumentParser) -> None:
    """Adds how the learning rate changes."""
    group = parser.add_argument_group("learning-rate schedule")
    group.add_argument(
        "--lr-scheduler", "--sched", choices=tuple(SCHEDULERS), default="cosine", help="how the learning rate changes"
    )
    group.add_argument(
        "--lr-step-size",
        "--decay-epochs",
        type=integer(1),
        metavar="N",
        help="of step (default: a third of the epochs)",
    )
    group.add_argument(
        "--milestones",
        "--decay-milestones",
        type=integer(1),
        nargs="+",
        metavar="N",
        help="epochs at which multistep decays",
    )
    group.add_argument(
        "--lr-gamma", "--decay-rate", type=number(0, 1.0001, True), default=0.1, metavar="G",
        help="factor of step, multistep, exponential and plateau",
    )  # fmt: skip
    group.add_argument(
        "--lr-min", "--min-lr", type=number(0), default=0.0, metavar="RATE", help="of cosine and plateau"
    )
    group.add_argument(
        "--lr-warmup-epochs",
        "--warmup-epochs",
        type=integer(0),
        default=0,
        metavar="N",
        help="epochs of rising rates first",
    )
    group.add_argument(
        "--lr-warmup-decay", "--warmup-factor", type=number(0, 1.0001, True), default=0.01, metavar="F",
        help="share of the learning rate to begin with",
    )  # fmt: skip
    group.add_argument("--patience-epochs", type=integer(1), default=5, metavar="N", help="of plateau")


def add_run(parser: argparse.ArgumentParser) -> None:
    """Adds what concerns the run as a whole."""
    group = parser.add_argument_group("run")
    group.add_argument(
        "--config", metavar="FILE", help="options from a .toml or .json file; those given here come first"
    )
    group.add_argument("--seed", type=integer(0), default=0, metavar="N", help="of split, weights, order, augmentation")
    group.add_argument(
        "--monitor",
        "--eval-metric",
        choices=("val_loss", "val_accuracy"),
        default="val_loss",
        help="the number by which the best epoch is chosen",
    )
    group.add_argument(
        "--patience", type=int, default=15, metavar="N", help="epochs without improvement before an early stop; 0: none"
    )
    group.add_argument(
        "--print-freq",
        "--log-interval",
        type=integer(0),
        default=0,
        metavar="N",
        help="a line every N batches; 0: none",
    )
    group.add_argument("--tensorboard", action="store_true", help="also write curves for TensorBoard")
    add_threads(group)
    group.add_argument(
        "--output-dir", "--output", metavar="DIR", help="directory of the run (default: runs/MODEL-DATA)"
    )
    group.add_argument("--resume", metavar="PATH", help="go on with a run: its directory or its last.safetensors")


def add_training(parser: argparse.ArgumentParser) -> None:
    """Adds all options of training from scratch, which lr-find and tune need as well."""
    add_data(parser)
    add_augmentation(parser)
    add_balance(parser)
    add_model(parser, "lenet5")
    add_optimization(parser, opt="adam", epochs=40, batch_size=64)
    add_weight_decay(parser, 0.0)
    add_schedule(parser)
    add_run(parser)
