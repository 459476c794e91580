"""An ImageNet start for ResNet-50, Inception-v3, VGG16 and VGG19: the convolutions of ``keras.applications``.

Runs that start so saw 1.2 million photographs first; they are reported apart from those trained from scratch.

A spectrogram has one channel, a photograph three. A grey photograph holds the same picture in all three, so
the kernels of the first convolution are summed over their input channels: the network then computes what the
published one would for the spectrogram as a grey photograph. Its input here has mean 0 and standard deviation
1 over the training clips; ``rescaled`` gives it the mean and deviation of the photographs' pixels, in the
units the published network was trained with, which its biases and running averages presuppose.
"""

from pathlib import Path

import keras
from keras import applications, layers

PUBLISHED = {"resnet": "ResNet50", "inceptionnet": "InceptionV3", "vgg16": "VGG16", "vgg19": "VGG19"}
# Pixels of ImageNet, 0 to 1, have mean 0.449 and standard deviation 0.226 (mean of the three channels).
CENTRED = (255 * 0.226, 0.0)               # 0 to 255 less the mean: deviation and mean
SYMMETRIC = (2 * 0.226, 2 * 0.449 - 1)     # -1 to 1
PIXELS = {"resnet": CENTRED, "inceptionnet": SYMMETRIC, "vgg16": CENTRED, "vgg19": CENTRED}
TRUNK_OPTIONS = ("canonical", "width", "stem_stride", "stem_pool", "skip", "modules", "batch_norm")


def check(name: str, input_shape: tuple[int, int, int], given: dict, defaults: dict) -> None:
    """Refuse options of a network that the published weights do not fit.

    Raises
    ------
    ValueError
        With ``weights``: another trunk than the published one, or neither 1 nor 3 channels.
    """
    if given.get("weights") is None:
        return
    for option in TRUNK_OPTIONS:
        if option in given and given[option] != defaults[option]:
            raise ValueError(f"The option weights needs the published layers: leave {option} of {name} at "
                             f"{defaults[option]}.")
    if name == "resnet" and given.get("depth") != 50:
        raise ValueError("The option weights of resnet needs depth=50.")
    if input_shape[2] not in (1, 3):
        raise ValueError(f"The option weights needs 1 or 3 channels, not {input_shape[2]}.")


def rescaled(x, name: str):
    """The input, of mean 0 and standard deviation 1, in the pixel units of the published network."""
    scale, offset = PIXELS[name]
    return layers.Rescaling(scale, offset, name="input_rescaled")(x)


def start(network: keras.Model, weights: str | Path | None) -> keras.Model:
    """Give the convolutions of a network the published weights; its head stays as it is. Returns the network.

    Parameters
    ----------
    network : a network whose layers up to ``last_conv`` are the published ones.
    weights : "imagenet" (downloaded by Keras on first use); the path of a weights file of the same network of
        ``keras.applications`` (``.h5``, ``.weights.h5`` or ``.keras``, with or without its dense layers);
        "random" leaves the published layers untrained; None does nothing.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    OSError
        The weights could not be downloaded.
    ValueError
        The file holds something else.
    """
    if weights is None or weights == "random":
        return network
    published = _published(network.name, weights)
    ours, theirs = _convolutions(network), _convolutions(published)
    values = [layer.get_weights() for layer in theirs]
    if values and network.input_shape[-1] == 1:
        values[0][0] = values[0][0].sum(axis=2, keepdims=True)
    if [[value.shape for value in layer] for layer in values] != [
            [tuple(weight.shape) for weight in layer.weights] for layer in ours]:
        raise ValueError(f"{weights} does not hold the weights of keras.applications.{PUBLISHED[network.name]}.")
    for layer, layer_values in zip(ours, values, strict=True):
        layer.set_weights(layer_values)
    return network


def _convolutions(model: keras.Model) -> list[layers.Layer]:
    """Convolutions and batch normalisations, in their order."""
    return [layer for layer in model.layers if isinstance(layer, (layers.Conv2D, layers.BatchNormalization))]


def _published(name: str, weights: str | Path) -> keras.Model:
    """The network of ``keras.applications`` with its weights."""
    title = PUBLISHED[name]
    make = getattr(applications, title)
    if weights == "imagenet":
        try:
            return make(include_top=False, weights="imagenet")
        except Exception as error:  # Keras raises a plain Exception
            raise OSError(f"The ImageNet weights of {title} could not be downloaded ({error}). Without a network, "
                          "save them elsewhere and give the file's path as weights.") from error
    path = Path(weights)
    if not path.is_file():
        raise FileNotFoundError(f"There is no weights file {path}. Give 'imagenet' or the path of a file of "
                                f"keras.applications.{title}.")
    if path.suffix == ".keras":
        return keras.saving.load_model(path, compile=False)
    reasons = []
    for include_top in (False, True):
        model = make(include_top=include_top, weights=None)
        try:
            model.load_weights(path)
            return model
        except (ValueError, KeyError, OSError) as error:
            reasons.append(str(error).splitlines()[0])
    raise ValueError(f"{path} does not hold the weights of keras.applications.{title}: {reasons[0]}")
