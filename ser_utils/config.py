"""Every setting of features, augmentation and training in one place, and the three profiles made of them."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from ser_utils import FOLD_COUNT, FOLDS, PROTOCOLS, TENFOLD
from ser_utils.paper import MODEL_NAMES, TABLE2

PAD_DB = -100.0  # value of a log-mel frame after the end of a clip; also the floor of a real one
WEIGHTS = "ser-small"  # for recordings from anywhere; CONTRIBUTING.md says how it is made
POWER_FLOOR = 10 ** (PAD_DB / 10)

# Defaults of settings that older runs know nothing of.
_LATER = {"mixup": 0.0, "keep": "best", "versions": 1, "share": 1.0, "channels": ("static",),
          "noise_around": False, "room_probability": 0.0, "room_frames": (10.0, 40.0), "band_probability": 0.0,
          "band_width": 28, "learns": "train", "teachers": 0}


class Hashed:
    """A configuration that can be told from others."""

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits that change when any setting changes.

        ``variant`` says where a run lies and not how it is trained, so it doesn't count; the settings of ``_LATER``
        count if they depart from their defaults.
        """
        def counted(items: list[tuple]) -> dict:
            return {name: value for name, value in items
                    if name != "variant" and (name not in _LATER or value != _LATER[name])}

        text = json.dumps(dataclasses.asdict(self, dict_factory=counted), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclasses.dataclass(frozen=True)
class FeatureConfig(Hashed):
    """How a recording becomes a log-mel spectrogram and MFCCs."""

    sample_rate: int = 16_000  # Hz
    n_fft: int = 800           # samples in an analysis window: 50 ms
    hop_length: int = 320      # samples between frames: 20 ms
    n_mels: int = 80           # mel bands
    fmin: float = 50.0         # Hz, lower edge of the lowest band
    fmax: float = 8_000.0      # Hz, upper edge of the highest band
    n_mfcc: int = 40           # cepstral coefficients, to which deltas and delta-deltas are added
    top_db: float = 30.0       # silence around the speech: this far below the loudest 20 ms


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """How far a training clip is varied; every value is a largest deviation, 0 switches the step off."""

    stretch: float = 0.1       # speed, as a fraction
    shift: int = 8             # start of the clip, frames
    warp: float = 0.04         # mel axis, as a fraction of a band's number: 4 % in hertz at 1 kHz, 10 % at 4 kHz
    gain_db: float = 6.0       # level
    tilt_db: float = 6.0       # smooth filter over frequency
    noise_probability: float = 0.25
    noise_snr_db: tuple[float, float] = (10.0, 40.0)
    frequency_masks: int = 1   # SpecAugment
    frequency_width: int = 12  # bands
    time_masks: int = 1
    time_width: int = 16       # frames
    noise_around: bool = False  # before and after the speech, too
    room_probability: float = 0.0
    room_frames: tuple[float, float] = (10.0, 40.0)  # reverberation time, until the tail has fallen by 60 dB
    band_probability: float = 0.0
    band_width: int = 28       # highest bands of which any number may be lost; 28 of 80 leave 0 to 2.8 kHz


@dataclasses.dataclass(frozen=True)
class BaseConfig(Hashed):
    """What every run has, of a network or of a reference: which data it is trained and tested on."""

    profile: str
    corpus: str                       # "ravdess" or "synthetic"
    protocol: str
    model: str
    fold: int
    seed: int = 0
    features: FeatureConfig = FeatureConfig()
    variant = ""                      # of a study: the folder in which its runs lie, apart from all others

    @property
    def row(self) -> str:
        """The row of Table 2 that it belongs to."""
        return self.model

    @property
    def place(self) -> str:
        """Which run it is among those of the same settings: ``<protocol>/<model>/fold<k>``, further seeds behind it."""
        seed = f"-seed{self.seed}" if self.seed else ""
        return f"{self.protocol}/{self.row}/fold{self.fold}{seed}"

    @property
    def published(self) -> str:
        """Where it lies in ``results/``."""
        return f"robust/{self.place}" if self.profile == "robust" else self.place

    @property
    def name(self) -> str:
        """Which run it is among all: :attr:`place`, for a variant of a study with its folder before it."""
        return f"{self.variant}/{self.place}" if self.variant else self.place

    def run_directory(self, root: Path) -> Path:
        """The run's folder: ``<root>[/<variant>]/<corpus>-<profile>/<place>``.

        Quick and full, synthetic and real runs never share a folder.
        """
        return Path(root) / self.variant / f"{self.corpus}-{self.profile}" / self.place


@dataclasses.dataclass(frozen=True)
class RunConfig(BaseConfig):
    """One training: a network, a protocol, a fold and the recipe."""

    augment: AugmentConfig | None = AugmentConfig()
    frames: int = 160                 # length of the network's input: 3.2 s; longer speech is cut in the middle
    pool: int = 1                     # frames and bands averaged together before the network, per axis
    options: dict = dataclasses.field(default_factory=dict)  # of the network's builder
    epochs: int = 100
    batch_size: int = 32
    learning_rate: float = 1e-3       # peak of the cosine schedule
    weight_decay: float = 0.02
    warmup_epochs: int = 5
    label_smoothing: float = 0.1
    clip_norm: float = 1.0
    ema: float = 0.0                  # decay of the running average of the weights; 0 switches it off
    patience: int = 40                # epochs without a better validation accuracy before training stops
    mixup: float = 0.0                # a of the Beta(a, a) that mixes each clip with another; 0 switches it off
    keep: str = "best"                # the epoch whose weights are kept: "best" on validation clips, or "last"
    versions: int = 1                 # test-time augmentation: speeds, warps and starts, each so many, averaged over
    share: float = 1.0                # of the training clips that it learns from, see ``folds.fewer``
    channels: tuple[str, ...] = ("static",)  # views of the spectrogram, see ``frontend.Channels``
    variant: str = ""                 # of a study: the folder in which its runs lie, apart from all others
    learns: str = "train"             # or "refit": from validation clips, too; "all": from every clip; "distilled"
    teachers: int = 0                 # of a distilled run: seeds of each of the seven networks

    @property
    def row(self) -> str:
        return self.model if self.learns == "train" else f"{self.model}_{self.learns}"

    @property
    def hash(self) -> str:
        """As of every configuration; that of a distilled run changes with its teachers', too."""
        if self.learns != "distilled":
            return super().hash
        every = " ".join([super().hash, *(one.hash for one in teachers(self))])
        return hashlib.sha256(every.encode()).hexdigest()[:12]


def from_dict(values: dict) -> RunConfig:
    """The configuration that ``dataclasses.asdict`` took apart (``run.json`` holds it so)."""
    def tuples(settings: dict) -> dict:  # JSON knows lists only
        return {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}

    augment = AugmentConfig(**tuples(values["augment"])) if values["augment"] else None
    return RunConfig(**tuples(values) | {"features": FeatureConfig(**values["features"]), "augment": augment})


@dataclasses.dataclass(frozen=True)
class Profile:
    """How much is trained: which folds, and how each network departs from the defaults of ``RunConfig``."""

    protocols: tuple[str, ...]
    folds: tuple[int, ...]
    common: dict                # settings of RunConfig for all networks
    networks: dict[str, dict]   # settings of RunConfig for one network
    features: FeatureConfig = FeatureConfig()
    by_protocol: dict[str, dict] = dataclasses.field(default_factory=dict)  # settings of RunConfig for one protocol


_NARROW, _QUARTER = {"width": 0.25}, {"width": 0.25, "dropout": 0.2}
PROFILES: dict[str, Profile] = {
    "smoke": Profile(("actors",), (0,), {"pool": 4, "epochs": 2, "warmup_epochs": 1}, {
        **{name: {"options": {"width": 0.125}} for name in MODEL_NAMES},
        "inceptionnet": {"options": {"width": 0.125, "modules": (1, 1, 1)}}}),
    "quick": Profile(("actors",), (0,), {
        "pool": 2, "epochs": 20, "warmup_epochs": 2, "learning_rate": 2e-3, "patience": 30}, {
        "alexnet": {"epochs": 30, "options": _NARROW | {"dropout": 0.3}},  # as in the published ladder of leaks
        "resnet": {"options": _NARROW | {"stem_stride": 4}},
        "inceptionnet": {"epochs": 12, "options": _NARROW | {"modules": (1, 1, 1)}},
        "vgg16": {"options": _NARROW | {"stem_stride": 2, "dropout": 0.3}},
        "vgg19": {"options": _NARROW | {"stem_stride": 2, "dropout": 0.3}},
        "lstm": {"options": _NARROW | {"stack": 4}},
        "transformer": {"epochs": 30, "options": {"width": 0.5, "depth": 2, "downsample": 4}},
    }),
    "full": Profile(PROTOCOLS, tuple(range(FOLDS)), {
        "augment": AugmentConfig(gain_db=0.0, tilt_db=0.0), "frames": 128, "epochs": 240, "patience": 240,
        "keep": "last", "versions": 3}, {
        "alexnet": {"options": {"width": 0.5, "stem_stride": 4, "dropout": 0.2}},
        "resnet": {"options": _QUARTER | {"stem_pool": True}},
        "inceptionnet": {"options": _QUARTER | {"stem_pool": True}},
        "vgg16": {"options": _QUARTER | {"stem_stride": 2}},
        "vgg19": {"options": _QUARTER | {"stem_stride": 2}},
        "lstm": {"options": {"units": 128, "stack": 4, "front_2d": 32}},
        "transformer": {
            "learning_rate": 2e-3, "ema": 0.995, "options": {
                "downsample": 4, "front_2d": 32, "dim": 96, "depth": 2, "dropout": 0.1, "stochastic_depth": 0.0}},
    }, by_protocol={  # an unseen voice has another vocal tract and speaks at another level
        "actors": {"augment": AugmentConfig(warp=0.08)},
    })}

# As ``full``, for recordings from outside the studio: another level, more noise, rooms, narrow bands.
PROFILES["robust"] = dataclasses.replace(
    PROFILES["full"], protocols=("actors",), by_protocol={}, common=PROFILES["full"].common | {
        "versions": 1, "augment": AugmentConfig(
            warp=0.08, shift=24, gain_db=20.0, noise_probability=0.5, noise_snr_db=(0.0, 40.0), noise_around=True,
            room_probability=0.4, band_probability=0.3)})


def learning(config: RunConfig, learns: str, teachers: int = 0) -> RunConfig:
    """The run that learns as ``learns`` says; a distilled one from ``teachers`` seeds of each network.

    It hears mixed clips, and for longer: a student gains by both (Beyer et al. 2022, arXiv:2106.05237). Where
    validation clips teach, too, the last epoch is kept. ValueError for a refit of ten folds, of which none validates.
    """
    if learns == "refit" and config.protocol == TENFOLD:
        raise ValueError("No fold of random10 validates, so there is nothing to refit: train it as it is.")
    if learns != "distilled":
        return dataclasses.replace(config, learns=learns, keep=config.keep if learns == "train" else "last")
    epochs = config.epochs * 5 // 3
    return dataclasses.replace(config, learns=learns, teachers=teachers, epochs=epochs, patience=epochs, mixup=0.5,
                               keep="last")


def teachers(config: RunConfig) -> list[RunConfig]:
    """The runs that a distilled run learns from: ``config.teachers`` seeds of each of the seven on its fold."""
    return run_configs(config.profile, config.corpus, [*TABLE2], config.protocol, config.fold, range(config.teachers))


def run_configs(profile: str, corpus: str, models: list[str] | str | None = None,
                protocols: list[str] | str | None = None, folds: list[int] | int | None = None,
                seeds: Iterable[int] | int = (0,)) -> list[RunConfig]:
    """The runs of a profile on a corpus ("ravdess" or "synthetic"), narrowed down to some or to one.

    ``random10`` is trained where it is asked for, in ``full`` all ten folds; none validates, so the last epoch is kept.
    Raises ValueError for an unknown profile, network, protocol or fold; the message lists what there is.
    """
    if profile not in PROFILES:
        raise ValueError(f"Unknown profile {profile!r}; choose from {', '.join(PROFILES)}.")
    given, chosen = (models, protocols, folds, seeds), PROFILES[profile]
    models, protocols, folds, seeds = ([one] if isinstance(one, str | int) else one for one in given)
    seeds, protocols = dict.fromkeys(seeds), protocols or chosen.protocols
    usual = {protocol: range(count) if len(chosen.folds) == FOLDS else chosen.folds
             for protocol, count in FOLD_COUNT.items()}
    most = max(FOLD_COUNT.get(protocol, 0) for protocol in protocols)
    for what, given, known in (("model", models, MODEL_NAMES), ("protocol", protocols, FOLD_COUNT),
                               ("fold", folds, range(most))):
        if unknown := [value for value in given or () if value not in known]:
            raise ValueError(f"Unknown {what} {unknown[0]!r}; choose from {', '.join(map(str, known))}.")
    return [RunConfig(profile, corpus, protocol, model, fold, seed, features=chosen.features,
                      **chosen.common | chosen.networks[model] | chosen.by_protocol.get(protocol, {})
                      | ({"keep": "last"} if protocol == TENFOLD else {}))  # where no fold validates
            for protocol in dict.fromkeys(protocols) for model in dict.fromkeys(models or MODEL_NAMES)
            for fold in dict.fromkeys(folds or usual[protocol]) if fold < FOLD_COUNT[protocol] for seed in seeds]
