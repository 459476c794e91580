"""LSTM (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000): a memory cell behind gates."""

import keras
from keras import layers, ops

from ser_utils.models import common


def lstm(input_shape, width=1.0, front_2d=0, stack=2, units=256, depth=2, dropout=0.3) -> keras.Model:
    """Bidirectional LSTM layers and attention over time; zeros appended to a clip leave its probabilities unchanged.

    front_2d : channels of two convolutions over frames and bands (``common.convolve_2d``); 0 takes two along time.
    stack : frames to one step of the LSTM: laid side by side (Chan et al. 2016), or by the strides of ``front_2d``.
    units, depth : units of each direction of each LSTM layer, and number of these layers.
    dropout : also between the LSTM layers.
    """
    units = common.scaled(units, width)
    inputs = keras.Input(input_shape, name="input")
    mask = common.PaddingMask(trailing=True, name="mask")(inputs)
    if front_2d:
        x, mask = common.convolve_2d(inputs, mask, common.scaled(front_2d, width), stack, "front")
    else:
        x = layers.Reshape((-1, input_shape[1] * input_shape[2]), name="front_flatten")(inputs)
        for number in (1, 2):
            x = layers.Conv1D(units, 5, padding="same", use_bias=False, name=f"front_conv{number}")(x)
            x = common.batch_norm(f"front_bn{number}")(x, mask=mask)
            x = layers.Activation("relu", name=f"front_relu{number}")(x)
            x = common.ApplyMask(name=f"front_mask{number}")(x, mask)
        if stack > 1:
            x = common.FrameStack(stack, name="stack")(x)
            mask = common.MaskPooling(stack, name="mask_pool")(mask)
    for number in range(1, depth + 1):
        x = layers.Dropout(dropout, name=f"lstm{number}_dropout")(x)
        cell = LSTMCell(units, dtype="float32")  # rounding its weights in each step takes longer than the products do
        layer = LSTM(cell, return_sequences=True, name=f"lstm{number}")
        x = layers.Bidirectional(layer, name=f"lstm{number}")(x, mask=mask)
    x = common.pool_time(x, mask)
    return keras.Model(inputs, common.classify(x, dropout), name="lstm")


@keras.saving.register_keras_serializable(package="ser_utils")
class LSTMCell(layers.LSTMCell):
    """Keras's cell, told what the input gives to the gates, x W + b, instead of the input x."""

    def call(self, gates, states, training=False):
        h, c = states
        i, f, g, o = ops.split(gates + ops.matmul(h, self.recurrent_kernel), 4, axis=-1)
        c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
        h = ops.sigmoid(o) * ops.tanh(c)
        return h, [h, c]


@keras.saving.register_keras_serializable(package="ser_utils")
class LSTM(layers.RNN):
    """Keras's LSTM that multiplies all frames with W at once, before the loop over frames instead of within it."""

    def inner_loop(self, sequences, initial_state, mask, training=False):
        gates = ops.matmul(sequences, self.cell.kernel) + self.cell.bias
        return super().inner_loop(gates, initial_state, mask, training)
