import dataclasses

import keras
import numpy as np
import pytest

from ser_utils.config import PAD_DB, AugmentConfig
from ser_utils.training.augment import Augment, SpecAugment, interpolation

OFF = AugmentConfig(stretch=0, shift=0, warp=0, gain_db=0, tilt_db=0, noise_probability=0, frequency_masks=0,
                    time_masks=0)


@pytest.fixture
def logmel():
    """Eight clips of 30 to 37 frames in 48, 20 bands."""
    rng = np.random.default_rng(0)
    x = rng.normal(-40, 8, (8, 48, 20)).astype(np.float32)
    for row in range(8):
        x[row, 30 + row:] = PAD_DB
    x[0, 10:14] = PAD_DB  # digital silence amid the speech, which ends it nowhere
    return x


def values(tensor):
    return keras.ops.convert_to_numpy(tensor)


def real(x):
    return (x > PAD_DB).any(axis=2)


@pytest.mark.parametrize("layer", [Augment(AugmentConfig()), SpecAugment(AugmentConfig())])
def test_validation_and_test_clips_pass_unchanged(layer, logmel):
    np.testing.assert_array_equal(values(layer(logmel, training=False)), logmel)
    np.testing.assert_array_equal(values(layer(logmel)), logmel)
    np.testing.assert_allclose(values(Augment(OFF)(logmel, training=True)), logmel, atol=1e-3)  # nothing is on


def test_interpolation_reads_between_steps_and_warp_moves_a_peak_in_frequency_by_its_bound():
    row = values(interpolation(np.array([[0.0, 1.5, 3.0]], np.float32), 4))[0] @ np.array([0, 10, 20, 30.0])
    np.testing.assert_allclose(row, [0, 15, 30])
    x = np.full((64, 4, 41), -60, np.float32)
    x[:, :, 20] = 0
    factors = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    peaks = values(Augment(AugmentConfig(warp=0.1)).warp(x, factors)).argmax(axis=2)[:, 0]
    assert peaks.min() >= 18 and peaks.max() <= 23 and peaks.min() < 20 < peaks.max()


def test_speed_changes_the_length_and_the_start_moves_within_their_bounds(logmel):
    layer = Augment(AugmentConfig(stretch=0.2, shift=0))
    factors = np.concatenate([real(values(layer(logmel, training=True))).sum(axis=1) / real(logmel).sum(axis=1)
                              for _ in range(20)])
    assert 1 / 1.2 - 0.05 < factors.min() < 0.92 and 1.08 < factors.max() < 1.2 + 0.05
    moved = real(values(Augment(AugmentConfig(stretch=0, shift=8))(logmel, training=True)))
    starts = moved.argmax(axis=1)
    assert 0 < starts.max() <= 8
    row = starts.argmax()  # there is room: the speech stays whole
    assert abs(int(moved[row].sum()) - int(real(logmel)[row].sum())) <= 1


def test_padding_stays_padding_and_levels_change_within_their_bound(logmel):
    varied = values(Augment(AugmentConfig(stretch=0, shift=0, noise_probability=1))(logmel, training=True))
    np.testing.assert_array_equal(real(varied), real(logmel))
    assert (varied[~real(varied)] == PAD_DB).all() and np.isfinite(varied).all()
    change = values(Augment(AugmentConfig(gain_db=6, tilt_db=0)).filter(logmel)) - logmel
    assert np.abs(change).max() <= 6 + 1e-3 and np.ptp(change[:, 0, 0]) > 1


def test_noise_has_the_wanted_signal_to_noise_ratio_in_the_chosen_share_of_clips(logmel):
    speech = real(logmel)[:, :, None]
    noisy = values(Augment(AugmentConfig(noise_probability=1, noise_snr_db=(0.0, 0.0))).add_noise(logmel, speech)[0])
    power, clean = (np.where(speech, 10 ** (x / 10), 0).sum(axis=(1, 2)) for x in (noisy, logmel))
    assert abs((10 * np.log10(power / clean - 1)).mean()) < 3  # the noise's colour moves single clips by some dB
    assert (noisy >= logmel - 1e-3)[speech[:, :, 0]].all()
    many, speech = np.repeat(logmel, 40, axis=0), np.repeat(speech, 40, axis=0)
    noisy = values(Augment(AugmentConfig(noise_probability=0.25)).add_noise(many, speech)[0])
    changed = speech & (np.abs(noisy - many) > 0.01)
    assert np.mean(changed.any(axis=(1, 2))) == pytest.approx(0.25, abs=0.08)


@pytest.mark.parametrize("snr, heard", [(10.0, 8), (30.0, 0)])
def test_loud_noise_is_heard_around_the_speech_where_asked_for(logmel, snr, heard):
    layer = Augment(dataclasses.replace(OFF, noise_probability=1, noise_snr_db=(snr, snr), noise_around=True))
    assert (real(values(layer(logmel, training=True))).all(axis=1)).sum() == heard


def test_a_room_lets_a_click_decay_by_60_db_in_its_reverberation_time():
    power = np.zeros((6, 48, 20), np.float32)
    power[:, 4] = 1.0
    layer = Augment(dataclasses.replace(OFF, room_probability=1, room_frames=(20.0, 20.0)))
    heard = values(layer.add_room(power))
    assert (heard[:, :4] == 0).all() and (heard[:, 4] == 1).all()
    np.testing.assert_allclose(10 * np.log10(heard[:, 5] / heard[:, 25]), 60, atol=0.1)
    tail = 10 * np.log10(heard[:, 5:].sum(axis=1))
    assert tail.min() > -15.1 and tail.max() < 0.1 and np.ptp(tail) > 1


def test_a_narrow_band_loses_its_edges_and_nothing_else(logmel):
    layer = Augment(dataclasses.replace(OFF, band_probability=1, band_width=10))
    loss = logmel - values(layer.narrow(logmel))
    assert (loss[:, :, 2:10] == 0).all() and loss.min() >= 0 and loss.max() < 60.1
    speech = loss[real(logmel)]
    assert (speech[:, -1] > 0).mean() > 0.7 and speech[:, -10:].max() > 30


def test_variants_are_the_middles_of_the_parts_of_the_training_range(logmel):
    layer = Augment(AugmentConfig(stretch=0.2, shift=8, warp=0.1))
    found = [values(variant) for variant in layer.variants(logmel, 2)]
    assert len(found) == 8 and all(variant.shape == logmel.shape for variant in found)
    middles = [np.full((len(logmel), 1), value, np.float32) for value in (-0.5, 0.5)]
    slow, early = layer.move_in_time(logmel, middles[0], middles[0]), layer.move_in_time(logmel, middles[1], middles[0])
    assert real(values(slow)).sum() > real(logmel).sum() > real(values(early)).sum()
    for number, (moved, factor) in {0: (slow, middles[0]), 1: (slow, middles[1]), 4: (early, middles[0])}.items():
        expected = np.where(real(values(moved))[:, :, None], values(layer.warp(moved, factor)), PAD_DB)
        np.testing.assert_array_equal(found[number], expected)
    still = Augment(AugmentConfig(stretch=0, shift=0, warp=0))
    for variant in still.variants(logmel, 3):
        np.testing.assert_allclose(values(variant), logmel, atol=1e-4)


def test_spec_augment_blanks_stripes_within_their_widths_and_all_channels_alike():
    x = np.random.default_rng(1).normal(size=(200, 60, 20)).astype(np.float32)
    x[:, 50:] = 0
    config = AugmentConfig(frequency_masks=1, frequency_width=5, time_masks=1, time_width=30)
    blanked = values(SpecAugment(config)(x, training=True))
    frames = (blanked[:, :50] == 0).all(axis=2).sum(axis=1)
    bands = (blanked[:, :50] == 0).all(axis=1).sum(axis=1)
    assert frames.max() <= 10 + 1 and frames.max() > 5   # a fifth of 50 frames, not the 30 asked for
    assert bands.max() <= 5 + 1 and bands.max() > 2
    kept = blanked != 0
    np.testing.assert_array_equal(blanked[kept], x[kept])
    x = np.random.default_rng(2).normal(size=(8, 60, 20, 2)).astype(np.float32)
    blank = values(SpecAugment(AugmentConfig(), seed=1)(x, training=True)) == 0
    np.testing.assert_array_equal(blank[..., 0], blank[..., 1])
    assert 0 < blank.mean() < 0.9


def test_layers_survive_serialisation_repeat_with_their_seed_and_change_from_clip_to_clip_and_call_to_call(logmel):
    same = np.repeat(logmel[:1], 8, axis=0)
    for layer in (Augment(AugmentConfig(stretch=0.3), seed=4), SpecAugment(AugmentConfig(), seed=4)):
        twin = type(layer).from_config(layer.get_config())
        assert twin.config == layer.config
        first = values(layer(same, training=True))
        np.testing.assert_array_equal(first, values(twin(same, training=True)))
        assert not np.allclose(first, values(layer(same, training=True))) and not np.allclose(first[0], first[1])


@pytest.mark.parametrize("step", [{"stretch": 0.2}, {"warp": 0.2}, {"gain_db": 6.0}, {"tilt_db": 6.0}, {"shift": 8}, {
    "noise_probability": 1.0}, {"room_probability": 1.0}, {"band_probability": 1.0}], ids=str)
def test_each_step_is_part_of_the_call(logmel, step):
    changed = values(Augment(dataclasses.replace(OFF, **step))(logmel, training=True))
    assert np.abs(changed - logmel)[real(logmel)].max() > 1
