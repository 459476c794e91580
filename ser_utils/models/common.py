"""What the seven networks share: convolutions, the padding mask, attention over time and the classification head.

Layer names start with the stage they belong to, up to the first underscore (``conv2`` in ``conv2_block1_add``).
"""

import keras
from keras import layers, ops

from ser_utils import EMOTIONS


def scaled(channels: int, width: float) -> int:
    """Channel count times ``width``, rounded to a multiple of 8, at least 8."""
    return max(8, 8 * round(channels * width / 8))


def conv(x, filters: int, kernel: int, stride: int = 1, bias: bool = True, *, name: str):
    """2-D convolution with zero padding, symmetric also when strided: n frames become ceil(n / stride)."""
    if stride == 1 or kernel == 1:
        return layers.Conv2D(filters, kernel, stride, padding="same", use_bias=bias, name=name)(x)
    x = layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x)
    return layers.Conv2D(filters, kernel, stride, use_bias=bias, name=name)(x)


@keras.saving.register_keras_serializable(package="ser_utils")
class BatchNorm(layers.BatchNormalization):
    """Keras's batch normalisation, on TensorFlow in one fused operation where a feature map is trained on.

    Keras 3 composes it from means, squares and products, which on a CPU cost as much as the convolutions. Means and
    variances are computed in float32 either way; the running variance here is that of the sample (n - 1).
    """

    def call(self, inputs, training=None, mask=None):
        fused = keras.backend.backend() == "tensorflow" and len(inputs.shape) == 4 and mask is None
        if not (fused and training and self.trainable):
            return super().call(inputs, training=training, mask=mask)
        from tensorflow.compat.v1 import nn

        gamma = ops.cast(self.gamma, "float32") if self.scale else ops.ones(inputs.shape[-1])
        x = ops.cast(inputs, "float32") if inputs.shape[-1] % 16 else inputs  # there oneDNN is slow in bfloat16
        x, mean, variance = nn.fused_batch_norm(x, gamma, ops.cast(self.beta, "float32"), epsilon=self.epsilon)
        for running, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            running.assign(running * self.momentum + batch * (1.0 - self.momentum))
        return ops.cast(x, inputs.dtype)


def batch_norm(name: str, **options) -> layers.Layer:
    """Batch normalisation (Ioffe and Szegedy 2015) whose running averages settle within few steps."""
    return BatchNorm(momentum=0.9, name=name, **options)


def conv_relu(x, filters: int, kernel: int, stride: int = 1, *, name: str):
    """Convolution, batch normalisation, ReLU: the layers ``name``, ``name_bn`` and ``name_relu``."""
    x = batch_norm(f"{name}_bn")(conv(x, filters, kernel, stride, bias=False, name=name))
    return layers.Activation("relu", name=f"{name}_relu")(x)


class MaskedLayer(layers.Layer):
    """A layer whose mask is passed by hand; masks that Keras carries along by itself end here."""

    def compute_mask(self, inputs, previous_mask=None):
        return None


@keras.saving.register_keras_serializable(package="ser_utils")
class PaddingMask(MaskedLayer):
    """(batch, frames, bins, channels) -> bool (batch, frames): True where a frame is not padding.

    With ``trailing=True`` only frames after the last sound count as padding, and the first frame never does.
    """

    def __init__(self, trailing: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.trailing = trailing

    def call(self, x):
        mask = ops.any(x != 0, axis=(2, 3))
        if not self.trailing:
            return mask
        frame = ops.arange(mask.shape[1])
        last = ops.max(ops.where(mask, frame, 0), axis=1, keepdims=True)
        return frame <= last


@keras.saving.register_keras_serializable(package="ser_utils")
class MaskPooling(MaskedLayer):
    """Mask of ``frames`` frames -> mask of ceil(frames / stride): True where any of the frames is True."""

    def __init__(self, stride: int, **kwargs):
        super().__init__(**kwargs)
        self.stride = stride

    def call(self, mask):
        mask = ops.pad(ops.cast(mask, "float32"), [[0, 0], [0, self.stride - 1]])
        return ops.max_pool(mask[..., None], self.stride, self.stride, padding="valid")[..., 0] > 0


@keras.saving.register_keras_serializable(package="ser_utils")
class ApplyMask(MaskedLayer):
    """Sets the padded frames of (batch, frames, features) to 0, as its zero padding is to the next convolution."""

    def call(self, x, mask):
        return x * ops.cast(mask, x.dtype)[..., None]


@keras.saving.register_keras_serializable(package="ser_utils")
class FrameStack(layers.Layer):
    """(batch, frames, features) -> (batch, ceil(frames / size), size x features), filled up with zeros."""

    def __init__(self, size: int, **kwargs):
        super().__init__(**kwargs)
        self.size = size

    def call(self, x):
        x = ops.pad(x, [[0, 0], [0, self.size - 1], [0, 0]])
        steps = ops.shape(x)[1] // self.size
        return ops.reshape(x[:, : steps * self.size], (-1, steps, self.size * x.shape[-1]))


def convolve_2d(x, mask, channels: int, shorten: int, stage: str):
    """Two 3 x 3 convolutions over frames and bands, for a network that then reads frames (Dong et al. 2018).

    (batch, frames, bins, inputs) and its mask -> (batch, ceil(frames / shorten), about bins / 4 x channels) and
    its mask; padded frames are 0. ``stage`` begins the layers' names. ValueError unless ``shorten`` is 1, 2 or 4.
    """
    if shorten not in (1, 2, 4):
        raise ValueError(f"Convolutions over frames and bands leave 1, 2 or 4 frames to a step, not {shorten}.")
    for number, stride in enumerate((2 if shorten == 4 else 1, 2 if shorten > 1 else 1), start=1):
        x = layers.ZeroPadding2D(1, name=f"{stage}_pad{number}")(x)
        x = layers.Conv2D(channels, 3, (stride, 2), use_bias=False, name=f"{stage}_conv{number}")(x)
        x = batch_norm(f"{stage}_bn{number}")(x)
        x = layers.Activation("relu", name=f"{stage}_relu{number}")(x)
        if stride > 1:
            mask = MaskPooling(stride, name=f"{stage}_mask_pool{number}")(mask)
        shape = x.shape[1:]
        x = layers.Reshape((shape[0], shape[1] * shape[2]), name=f"{stage}_flatten{number}")(x)
        x = ApplyMask(name=f"{stage}_mask{number}")(x, mask)
        if number == 1:
            x = layers.Reshape(shape, name=f"{stage}_plane{number}")(x)
    return x, mask


@keras.saving.register_keras_serializable(package="ser_utils")
class AttentionWeights(MaskedLayer):
    """How much each frame counts: softmax over the unpadded frames of v . tanh(W h + b).

    (batch, frames, features) and a mask -> (batch, frames), each row summing to 1, as in Bahdanau et al. 2015 without a
    query (Lin et al. 2017). A clip that is all padding gets equal weights.
    """

    def __init__(self, units: int = 64, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")
        self.score = self.add_weight(shape=(self.units, 1), name="score")

    def call(self, x, mask):
        scores = ops.matmul(ops.tanh(ops.matmul(x, self.kernel) + self.bias), self.score)[..., 0]
        return ops.softmax(ops.where(mask, scores, -1e9), axis=-1)


@keras.saving.register_keras_serializable(package="ser_utils")
class AttentionPooling(MaskedLayer):
    """Frames (batch, frames, features) and weights (batch, frames) -> the weighted mean (batch, features)."""

    def call(self, x, frame_weights):
        return ops.einsum("bt,btf->bf", frame_weights, x)


def pool_time(x, mask):
    """(batch, frames, features) -> (batch, features), in float32; the layer ``attention`` weights the frames."""
    frame_weights = AttentionWeights(dtype="float32", name="attention")(x, mask)
    return AttentionPooling(dtype="float32", name="attention_pooling")(x, frame_weights)


def classify(x, dropout: float, hidden: tuple[int, ...] = ()):
    """Optional hidden dense layers, dropout before every dense layer, and the emotions' softmax in float32."""
    for number, units in enumerate(hidden, start=1):
        x = layers.Dropout(dropout, name=f"dense{number}_dropout")(x)
        x = layers.Dense(units, activation="relu", name=f"dense{number}")(x)
    x = layers.Dropout(dropout, name="predictions_dropout")(x)
    return layers.Dense(len(EMOTIONS), activation="softmax", dtype="float32", name="predictions")(x)


def imagenet(x):
    """The last layer of a network as published, for the 1,000 classes of ImageNet."""
    return layers.Dense(1000, activation="softmax", dtype="float32", name="predictions")(x)


def head(x, inputs, stride: int, dropout: float, hidden: tuple[int, ...] = ()):
    """Feature map (batch, frames, bins, channels) -> class probabilities; the head of the convolutional nets.

    The bins are averaged into at most three frequency bands, whose channels describe a frame (``stride`` of the
    input's); ``pool_time`` pools the frames that are not padding.
    """
    x = layers.Identity(name="last_conv")(x)
    mask = MaskPooling(stride, name="mask_pool")(PaddingMask(name="mask")(inputs))
    x = layers.AveragePooling2D((1, -(-x.shape[2] // 3)), padding="same", name="bands_pool")(x)
    x = layers.Reshape((-1, x.shape[2] * x.shape[3]), name="bands_flatten")(x)
    return classify(pool_time(x, mask), dropout, hidden)
