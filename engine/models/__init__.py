"""Models, by class, by builder and by name."""

from typing import Any

from engine.models._model import Model as Model
from engine.models._registry import (
    get_model as get_model,
)
from engine.models._registry import (
    get_model_builder as get_model_builder,
)
from engine.models._registry import (
    list_models as list_models,
)
from engine.models._registry import (
    register_model as register_model,
)
from engine.models._registry import (
    skip_init as skip_init,
)
from engine.models.alexnet import (
    AlexNet as AlexNet,
)
from engine.models.alexnet import (
    alexnet as alexnet,
)
from engine.models.convnext import (
    ConvNeXt as ConvNeXt,
)
from engine.models.convnext import (
    convnext_base as convnext_base,
)
from engine.models.convnext import (
    convnext_large as convnext_large,
)
from engine.models.convnext import (
    convnext_small as convnext_small,
)
from engine.models.convnext import (
    convnext_tiny as convnext_tiny,
)
from engine.models.densenet import (
    DenseNet as DenseNet,
)
from engine.models.densenet import (
    densenet121 as densenet121,
)
from engine.models.densenet import (
    densenet161 as densenet161,
)
from engine.models.densenet import (
    densenet169 as densenet169,
)
from engine.models.densenet import (
    densenet201 as densenet201,
)
from engine.models.efficientnet import (
    EfficientNet as EfficientNet,
)
from engine.models.efficientnet import (
    efficientnet_b0 as efficientnet_b0,
)
from engine.models.efficientnet import (
    efficientnet_b1 as efficientnet_b1,
)
from engine.models.efficientnet import (
    efficientnet_b2 as efficientnet_b2,
)
from engine.models.efficientnet import (
    efficientnet_b3 as efficientnet_b3,
)
from engine.models.efficientnet import (
    efficientnet_b4 as efficientnet_b4,
)
from engine.models.efficientnet import (
    efficientnet_b5 as efficientnet_b5,
)
from engine.models.efficientnet import (
    efficientnet_b6 as efficientnet_b6,
)
from engine.models.efficientnet import (
    efficientnet_b7 as efficientnet_b7,
)
from engine.models.efficientnet import (
    efficientnet_v2_l as efficientnet_v2_l,
)
from engine.models.efficientnet import (
    efficientnet_v2_m as efficientnet_v2_m,
)
from engine.models.efficientnet import (
    efficientnet_v2_s as efficientnet_v2_s,
)
from engine.models.googlenet import (
    GoogLeNet as GoogLeNet,
)
from engine.models.googlenet import (
    GoogLeNetOutputs as GoogLeNetOutputs,
)
from engine.models.googlenet import (
    googlenet as googlenet,
)
from engine.models.inception import (
    Inception3 as Inception3,
)
from engine.models.inception import (
    InceptionOutputs as InceptionOutputs,
)
from engine.models.inception import (
    inception_v3 as inception_v3,
)
from engine.models.lenet import (
    LeNet5 as LeNet5,
)
from engine.models.lenet import (
    lenet5 as lenet5,
)
from engine.models.mnasnet import (
    MNASNet as MNASNet,
)
from engine.models.mnasnet import (
    mnasnet0_5 as mnasnet0_5,
)
from engine.models.mnasnet import (
    mnasnet0_75 as mnasnet0_75,
)
from engine.models.mnasnet import (
    mnasnet1_0 as mnasnet1_0,
)
from engine.models.mnasnet import (
    mnasnet1_3 as mnasnet1_3,
)
from engine.models.mobilenetv2 import (
    MobileNetV2 as MobileNetV2,
)
from engine.models.mobilenetv2 import (
    mobilenet_v2 as mobilenet_v2,
)
from engine.models.mobilenetv3 import (
    MobileNetV3 as MobileNetV3,
)
from engine.models.mobilenetv3 import (
    mobilenet_v3_large as mobilenet_v3_large,
)
from engine.models.mobilenetv3 import (
    mobilenet_v3_small as mobilenet_v3_small,
)
from engine.models.regnet import (
    RegNet as RegNet,
)
from engine.models.regnet import (
    regnet_x_1_6gf as regnet_x_1_6gf,
)
from engine.models.regnet import (
    regnet_x_3_2gf as regnet_x_3_2gf,
)
from engine.models.regnet import (
    regnet_x_8gf as regnet_x_8gf,
)
from engine.models.regnet import (
    regnet_x_16gf as regnet_x_16gf,
)
from engine.models.regnet import (
    regnet_x_32gf as regnet_x_32gf,
)
from engine.models.regnet import (
    regnet_x_400mf as regnet_x_400mf,
)
from engine.models.regnet import (
    regnet_x_800mf as regnet_x_800mf,
)
from engine.models.regnet import (
    regnet_y_1_6gf as regnet_y_1_6gf,
)
from engine.models.regnet import (
    regnet_y_3_2gf as regnet_y_3_2gf,
)
from engine.models.regnet import (
    regnet_y_8gf as regnet_y_8gf,
)
from engine.models.regnet import (
    regnet_y_16gf as regnet_y_16gf,
)
from engine.models.regnet import (
    regnet_y_32gf as regnet_y_32gf,
)
from engine.models.regnet import (
    regnet_y_128gf as regnet_y_128gf,
)
from engine.models.regnet import (
    regnet_y_400mf as regnet_y_400mf,
)
from engine.models.regnet import (
    regnet_y_800mf as regnet_y_800mf,
)
from engine.models.resnet import (
    ResNet as ResNet,
)
from engine.models.resnet import (
    resnet18 as resnet18,
)
from engine.models.resnet import (
    resnet34 as resnet34,
)
from engine.models.resnet import (
    resnet50 as resnet50,
)
from engine.models.resnet import (
    resnet101 as resnet101,
)
from engine.models.resnet import (
    resnet152 as resnet152,
)
from engine.models.resnet import (
    resnext50_32x4d as resnext50_32x4d,
)
from engine.models.resnet import (
    resnext101_32x8d as resnext101_32x8d,
)
from engine.models.resnet import (
    resnext101_64x4d as resnext101_64x4d,
)
from engine.models.resnet import (
    wide_resnet50_2 as wide_resnet50_2,
)
from engine.models.resnet import (
    wide_resnet101_2 as wide_resnet101_2,
)
from engine.models.shufflenetv2 import (
    ShuffleNetV2 as ShuffleNetV2,
)
from engine.models.shufflenetv2 import (
    shufflenet_v2_x0_5 as shufflenet_v2_x0_5,
)
from engine.models.shufflenetv2 import (
    shufflenet_v2_x1_0 as shufflenet_v2_x1_0,
)
from engine.models.shufflenetv2 import (
    shufflenet_v2_x1_5 as shufflenet_v2_x1_5,
)
from engine.models.shufflenetv2 import (
    shufflenet_v2_x2_0 as shufflenet_v2_x2_0,
)
from engine.models.squeezenet import (
    SqueezeNet as SqueezeNet,
)
from engine.models.squeezenet import (
    squeezenet1_0 as squeezenet1_0,
)
from engine.models.squeezenet import (
    squeezenet1_1 as squeezenet1_1,
)
from engine.models.summary import Summary as Summary
from engine.models.summary import summarize as summarize
from engine.models.vgg import (
    VGG as VGG,
)
from engine.models.vgg import (
    vgg11 as vgg11,
)
from engine.models.vgg import (
    vgg11_bn as vgg11_bn,
)
from engine.models.vgg import (
    vgg13 as vgg13,
)
from engine.models.vgg import (
    vgg13_bn as vgg13_bn,
)
from engine.models.vgg import (
    vgg16 as vgg16,
)
from engine.models.vgg import (
    vgg16_bn as vgg16_bn,
)
from engine.models.vgg import (
    vgg19 as vgg19,
)
from engine.models.vgg import (
    vgg19_bn as vgg19_bn,
)
from engine.models.xception import (
    Xception as Xception,
)
from engine.models.xception import (
    xception as xception,
)

_OF_WEIGHTS = ("Weights", "WeightsEnum", "get_model_weights", "get_weight")


def __getattr__(name: str) -> Any:
    """Weights by name (get_weight, ResNet50_Weights, ...): their table is read when it is first asked for."""
    if name.endswith("_Weights") or name in ("Weights", "WeightsEnum", "get_model_weights", "get_weight"):
        from engine.models import _weights

        return getattr(_weights, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
