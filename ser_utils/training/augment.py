"""Training-time augmentation of log-mel spectrograms as Keras layers.

Validation and test clips pass unchanged: Keras calls the layers with ``training=False`` there.
"""

import dataclasses
import itertools
import math

import keras
from keras import ops

from ser_utils.config import PAD_DB, POWER_FLOOR, AugmentConfig

_NEPER = math.log(10) / 10  # natural logarithm of a power from dB


def interpolation(source, size: int):
    """Matrices (batch, out, size) that interpolate a sequence at positions ``source`` (batch, out) of 0 .. size-1."""
    return ops.maximum(0.0, 1.0 - ops.abs(ops.expand_dims(source, -1) - ops.arange(size, dtype="float32")))


class _Random(keras.layers.Layer):
    """A layer with a random state of its own, saved with the weights so that a continued run goes on in step."""

    def __init__(self, config: AugmentConfig | dict, seed: int = 0, **kwargs):
        super().__init__(**kwargs | {"dtype": "float32"})
        self.config = AugmentConfig(**config) if isinstance(config, dict) else config
        self.seed = seed
        self.generator = keras.random.SeedGenerator(seed)

    def uniform(self, shape, low: float = -1.0, high: float = 1.0):
        return keras.random.uniform(shape, low, high, dtype="float32", seed=self.generator)

    def get_config(self) -> dict:
        return {**super().get_config(), "config": dataclasses.asdict(self.config), "seed": self.seed}


@keras.saving.register_keras_serializable("ser_utils")
class Augment(_Random):
    """Vary how a clip is spoken and recorded: log-mel in dB (batch, frames, bands) in and out.

    Tempo (pitch stays; after Ko et al. 2015), start, frequency warp (Jaitly and Hinton 2013), level, smooth filter and
    noise; where asked for, a room and a narrow band. Padding stays padding, but for loud noise around the speech.
    """

    def call(self, logmel, training: bool = False):
        if not training:
            return logmel
        batch = ops.shape(logmel)[0]
        logmel = self.move_in_time(logmel, self.uniform((batch, 1)), self.uniform((batch, 1)))
        speech = ops.any(logmel > PAD_DB, axis=2, keepdims=True)
        varied, noisy = self.add_noise(self.filter(self.warp(logmel, self.uniform((batch, 1)))), speech)
        return ops.where(ops.logical_or(speech, noisy), self.narrow(varied), PAD_DB)

    def variants(self, logmel, count: int):
        """Test-time augmentation: the clips at ``count`` speeds, starts and warps each, count³ log-mels in turn."""
        middles = [(2 * part + 1) / count - 1 for part in range(count)]  # of equal parts of what training draws from
        for speed, start, warp in itertools.product(middles, repeat=3):
            speed, start, warp = (ops.full((ops.shape(logmel)[0], 1), value) for value in (speed, start, warp))
            moved = self.move_in_time(logmel, speed, start)
            speech = ops.any(moved > PAD_DB, axis=2, keepdims=True)
            yield ops.where(speech, self.warp(moved, warp), PAD_DB)

    def move_in_time(self, logmel, speed, start):
        """Another speed and another start, (batch, 1), -1 to 1; what leaves the window at either end is lost."""
        frames = logmel.shape[1]
        frame = ops.arange(1, frames + 1, dtype="float32")[:, None]
        length = ops.max(ops.where(ops.any(logmel > PAD_DB, axis=2, keepdims=True), frame, 0.0), axis=1)
        speed = ops.exp(speed * math.log1p(self.config.stretch))
        start = (0.25 + 0.75 * start) * self.config.shift  # half as far ahead as behind
        source = (ops.arange(frames, dtype="float32") - start) * speed
        inside = ops.logical_and(source >= 0, source <= length - 1)
        moved = ops.matmul(interpolation(source, frames), logmel)
        return ops.where(ops.expand_dims(inside, -1), moved, PAD_DB)

    def warp(self, logmel, factor):
        """Stretch the mel axis by ``factor`` (batch, 1), -1 to 1: a voice of another size, its highs moved furthest."""
        bands = logmel.shape[2]
        source = ops.clip(ops.arange(bands, dtype="float32") * (1.0 + factor * self.config.warp), 0, bands - 1)
        return ops.matmul(logmel, ops.transpose(interpolation(source, bands), (0, 2, 1)))

    def curve(self, batch, bands: int):
        """Smooth random curves over frequency, (batch, 1, bands), within about -1 .. 1: three cosines."""
        order = ops.arange(1, 4, dtype="float32")
        waves = ops.cos(math.pi * ops.expand_dims(order, 1) * (ops.arange(bands, dtype="float32") + 0.5) / bands)
        return ops.expand_dims(ops.matmul(self.uniform((batch, 3)) / 2, waves), 1)

    def filter(self, logmel):
        """Another level and another microphone or room: a smooth gain over frequency, in dB."""
        batch = ops.shape(logmel)[0]
        gain = self.uniform((batch, 1, 1)) * self.config.gain_db
        return logmel + gain + self.curve(batch, logmel.shape[2]) * self.config.tilt_db

    def add_noise(self, logmel, speech):
        """Add coloured noise, wavering by 2 dB, to some of the clips at a random ratio of means over mel bands.

        Returns the clips and whether the noise is heard beyond the speech, (batch, 1, 1): with ``noise_around``, where
        it is so loud (below 20 dB) that no silence would be cut.
        """
        batch, frames, bands = ops.shape(logmel)[0], logmel.shape[1], logmel.shape[2]
        power = self.add_room(ops.where(speech, ops.exp(logmel * _NEPER), 0.0))
        spoken = ops.sum(ops.cast(speech, "float32"), axis=(1, 2), keepdims=True) * bands
        mean = ops.sum(power, axis=(1, 2), keepdims=True) / ops.maximum(spoken, 1.0)
        snr = self.uniform((batch, 1, 1), *self.config.noise_snr_db)
        colour = ops.exp((10.0 * self.curve(batch, bands) - snr) * _NEPER)
        course = ops.exp(2.0 * _NEPER * keras.random.normal((batch, frames, 1), dtype="float32", seed=self.generator))
        chosen = ops.cast(self.uniform((batch, 1, 1), 0.0, 1.0) < self.config.noise_probability, "float32")
        noisy = ops.logical_and(self.config.noise_around * chosen > 0, snr < 20.0)
        return ops.log(ops.maximum(power + chosen * mean * colour * course, POWER_FLOOR)) / _NEPER, noisy

    def add_room(self, power):
        """Let some of the clips, powers (batch, frames, bands), sound in a room: a tail follows every frame.

        Its power decays exponentially, by 60 dB in the reverberation time (Polack's model of a room's late response,
        as in Lebart et al. 2001), and is as strong in all as 0 to -15 dB of the direct sound.
        """
        if not self.config.room_probability:
            return power
        batch, frames = ops.shape(power)[0], power.shape[1]
        decay = 6 * math.log(10) / self.uniform((batch, 1, 1), *self.config.room_frames)
        behind = ops.arange(frames, dtype="float32")[:, None] - ops.arange(frames, dtype="float32")
        tail = ops.where(behind > 0, ops.exp(-decay * ops.maximum(behind, 0.0)), 0.0)
        share = ops.exp(-self.uniform((batch, 1, 1), 0.0, 15.0) * _NEPER) * (ops.exp(decay) - 1.0)
        chosen = ops.cast(self.uniform((batch, 1, 1), 0.0, 1.0) < self.config.room_probability, "float32")
        return power + chosen * share * ops.matmul(tail, power)

    def narrow(self, logmel):
        """Let some clips pass a narrow band, as of a telephone: bands beyond it fall by 10 dB each, 60 dB at most.

        The upper edge lies anywhere in the highest ``band_width`` bands, the lower in a fifth as many lowest ones.
        """
        if not self.config.band_probability:
            return logmel
        batch, bands = ops.shape(logmel)[0], logmel.shape[2]
        upper = bands - self.uniform((batch, 1, 1), 0.0, 1.0) * self.config.band_width
        lower = self.uniform((batch, 1, 1), 0.0, 1.0) * self.config.band_width / 5
        band = ops.arange(bands, dtype="float32")
        beyond = ops.clip(10.0 * ops.maximum(band - upper, lower - band), 0.0, 60.0)
        chosen = ops.cast(self.uniform((batch, 1, 1), 0.0, 1.0) < self.config.band_probability, "float32")
        return ops.maximum(logmel - chosen * beyond, PAD_DB)


@keras.saving.register_keras_serializable("ser_utils")
class SpecAugment(_Random):
    """Blank random stripes of a normalised spectrogram (batch, frames, bands[, channels]), in frequency and in time.

    SpecAugment without time warping (Park et al. 2019, doi 10.21437/Interspeech.2019-2680). It writes 0: the mean, and
    padding to networks that mask. A time stripe covers a fifth at most, and spares the end of a clip that was moved.
    """

    def call(self, spectrogram, training: bool = False):
        if not training:
            return spectrogram
        batch, frames, bands = ops.shape(spectrogram)[0], spectrogram.shape[1], spectrogram.shape[2]
        speech = ops.cast(ops.any(spectrogram != 0, axis=tuple(range(2, len(spectrogram.shape)))), "float32")
        length = ops.sum(speech, axis=1, keepdims=True)
        width = ops.minimum(0.2 * length, float(self.config.time_width))
        keep = ops.ones((batch, frames, bands))
        for _ in range(self.config.time_masks):
            keep = keep * ops.expand_dims(self.stripe(batch, frames, width, length), 2)
        for _ in range(self.config.frequency_masks):
            keep = keep * ops.expand_dims(self.stripe(batch, bands, self.config.frequency_width, bands), 1)
        return spectrogram * ops.reshape(keep, (batch, frames, bands) + (1,) * (len(spectrogram.shape) - 3))

    def stripe(self, batch, size: int, width, extent):
        """Rows (batch, size) of ones with a run of zeros, up to ``width`` long, starting below ``extent``."""
        run = self.uniform((batch, 1), 0.0, 1.0) * width
        start = self.uniform((batch, 1), 0.0, 1.0) * ops.maximum(extent - run, 0.0)
        position = ops.arange(size, dtype="float32")
        return ops.cast(ops.logical_or(position < start, position >= start + run), "float32")
