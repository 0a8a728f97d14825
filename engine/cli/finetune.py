"""Train pretrained weights for other classes: the new head first, then the layers from head to stem.

The weights are those of --weights: a name such as DEFAULT, a file (.pth, .safetensors), or a run of the engine."""

from __future__ import annotations

import argparse

from engine.cli.arguments import integer, number, set_threads

HELP = "train pretrained weights for the classes of a folder"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options, named as in torchvision's and timm's training scripts."""
    from engine.cli import options

    options.add_data(parser, None)
    options.add_augmentation(parser)
    options.add_balance(parser)
    options.add_model(parser, "resnet18")
    group = parser.add_argument_group("fine-tuning")
    group.add_argument("--freeze-epochs", type=integer(0), default=3, metavar="N", help="epochs of the new head alone")
    group.add_argument(
        "--unfreeze-every", type=integer(0), default=1, metavar="N", help="epochs between two thaws; 0: all at once"
    )
    group.add_argument(
        "--layer-decay",
        type=number(0, 1.0001, True),
        default=0.7,
        metavar="D",
        help="rate of a layer to the next one's",
    )
    group.add_argument(
        "--lr-warmup-epochs", "--warmup-epochs", type=number(0), default=0.5, metavar="N", help="after a thaw"
    )
    group.add_argument("--no-cache", action="store_true", help="do not train the head on stored features")
    options.add_optimization(parser, opt="adamw", epochs=10, batch_size=32)
    options.add_weight_decay(parser, 0.01)
    options.add_run(parser)
    parser.set_defaults(clip_grad_norm=1.0, patience=0, lr=1e-3)


def run(arguments: argparse.Namespace) -> int:
    """Fine-tunes, tests and saves."""
    import os
    import time

    from engine.cli import tasks, training
    from engine.cli.config import last_of
    from engine.fine_tuning import fine_tune

    set_threads(arguments.threads)
    if not arguments.weights:
        arguments.weights = "DEFAULT"
    if arguments.model is None and not tasks.is_checkpoint(arguments.weights):
        arguments.model = "resnet18"
    made = training.setup(arguments)
    if arguments.resume:
        directory = os.path.dirname(os.path.abspath(last_of(arguments.resume)))
        arguments.output_dir = directory
    else:
        directory = training.make_directory(arguments, made.model_name)
    training.begin(arguments, directory)
    print(made.headline(), flush=True)
    mixers = training.mixing(arguments, len(made.classes))
    begin = time.perf_counter()
    try:
        result = fine_tune(
            made.model,
            made.train,
            arguments.epochs,
            valid_data=made.val,
            num_classes=len(made.classes),
            reset_head=False,  # setup has made it
            freeze_epochs=arguments.freeze_epochs,
            unfreeze_every=arguments.unfreeze_every,
            optimizer=lambda groups: training.optimizer(arguments, groups),
            lr=arguments.lr,
            layer_decay=arguments.layer_decay,
            weight_decay=arguments.weight_decay,
            warmup_epochs=arguments.lr_warmup_epochs,
            dropout=arguments.drop,
            loss_fn=training.loss_function(arguments, made),
            clip_norm=arguments.clip_grad_norm,
            accumulate=arguments.accumulate,
            ema=arguments.model_ema_decay if arguments.model_ema else None,
            monitor=arguments.monitor,
            patience=arguments.patience,
            cache=False if arguments.no_cache or mixers else "auto",
            checkpoint_dir=directory,
            contents=made.contents(arguments),
            resume=last_of(arguments.resume) if arguments.resume else False,
            seed=arguments.seed,
            callbacks=[*mixers, *training.watchers(arguments, directory)],
        )
    except KeyboardInterrupt:
        print(f"\ninterrupted; engine finetune --resume {directory} goes on")
        raise
    training.finish(result.trainer, made, directory, time.perf_counter() - begin, result.history)
    return 0
