"""One run: a configuration in; weights, history and predictions out, written so that no crash can spoil them."""

import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import filelock
import keras
import numpy as np
import pandas as pd
from tqdm import tqdm

from ser_utils import EMOTIONS, machine
from ser_utils.config import PAD_DB, POWER_FLOOR, RunConfig
from ser_utils.data.folds import check_split, fewer, joined, split
from ser_utils.evaluation.metrics import PROBABILITIES, cross_entropy, metrics
from ser_utils.features.spectral import FeatureStore, fit_length, statistics
from ser_utils.paths import RUNS, atomic_write
from ser_utils.training import distil, frontend, runs

PREDICT_BATCH = 120
SAVE_SECONDS = 1.0  # at least between two saved states, where epochs take a fraction of a second


@dataclasses.dataclass(frozen=True)
class Data:
    """What one run trains on, validates on and is tested on; rows are those of ``clips``."""

    clips: np.ndarray    # (N,) file stems
    logmel: np.ndarray   # (N, frames, bands), dB, padded
    labels: np.ndarray   # (N,) 0-7
    rows: dict[str, np.ndarray]  # "train", "val", "test" (the last two as far as nothing is learned from them)


def prepare(config: RunConfig, store: FeatureStore) -> Data:
    """The clips of a run's fold, checked against every promise of its protocol.

    Raises LeakError where the split shares a speaker, a twin or a clip between parts where the protocol forbids it;
    ValueError where the features were made with another configuration, or from another corpus.
    """
    if store.config != config.features or store.corpus != config.corpus:
        raise ValueError(f"The features are of {store.corpus}, made with {store.config}; the run {config.name} wants "
                         f"{config.corpus}, {config.features}. Extract them again with that configuration.")
    index = store.index
    rows = split(index, config.protocol, config.fold)
    rows["train"] = fewer(index, config.protocol, rows["train"], config.share)
    rows = joined(check_split(index, config.protocol, rows), config.learns)
    return Data(store.clips, fit_length(store.logmel, store.lengths, config.frames), index.label.to_numpy(), rows)


class Batches(keras.utils.PyDataset):
    """Training batches in an order that depends on seed and epoch alone; with ``mixup`` each is :func:`mixed`."""

    def __init__(self, x: np.ndarray, labels: np.ndarray, batch_size: int, seed: int, mixup: float = 0.0):
        # With one, tf.data's epochs take seconds to end; with two, JAX's trainer, which peeks, gets batches of before.
        super().__init__(workers=1 if keras.backend.backend() == "jax" else 2)
        self.x, self.y = x, np.eye(len(EMOTIONS), dtype=np.float32)[labels]
        self.batch_size, self.seed, self.mixup = min(batch_size, len(x)), seed, mixup
        self.start_epoch(0)

    def start_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        self.order = np.random.default_rng([self.seed, epoch]).permutation(len(self.x))

    def __len__(self) -> int:
        return len(self.x) // self.batch_size

    def __getitem__(self, number: int):
        rows = self.order[number * self.batch_size:(number + 1) * self.batch_size]
        if not self.mixup:
            return self.x[rows], self.y[rows]
        return mixed(self.x[rows], self.y[rows], self.mixup, np.random.default_rng([self.seed, self.epoch, number]))


def mixed(x: np.ndarray, y: np.ndarray, a: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Mixup (Zhang et al. 2018): log-mels (N, frames, bands) in dB and labels (N, 8), each mixed with another.

    Powers and labels add, a share from Beta(a, a) of the clip's own. Frames in which both are padding stay padding.
    """
    other = rng.permutation(len(x))
    share = rng.beta(a, a, len(x)).astype(np.float32)[:, None, None]
    powers = share * 10 ** (x / 10) + (1 - share) * 10 ** (x[other] / 10)
    padding = ((x <= PAD_DB) & (x[other] <= PAD_DB)).all(axis=2, keepdims=True)
    weight = share[:, :, 0]
    return (np.where(padding, PAD_DB, 10 * np.log10(np.maximum(powers, POWER_FLOOR))).astype(np.float32),
            weight * y + (1 - weight) * y[other])


def probabilities(model: keras.Model, x: np.ndarray) -> np.ndarray:
    """Predicted probabilities (N, 8) of inputs (N, frames, bands), in batches of one size."""
    size = min(PREDICT_BATCH, len(x))
    padded = np.concatenate([x, x[:-len(x) % size]])
    parts = [model.predict_on_batch(padded[start:start + size]) for start in range(0, len(padded), size)]
    return np.concatenate(parts)[: len(x)]


def predict(model: keras.Model, x: np.ndarray, variants: int = 1) -> np.ndarray:
    """As :func:`probabilities`, but the mean over ``variants`` cubed variants of each clip (``Augment.variants``)."""
    if variants == 1:
        return probabilities(model, x)
    made = model.get_layer("augment").variants(x, variants)
    return np.mean([probabilities(model, keras.ops.convert_to_numpy(variant)) for variant in made], axis=0)


def copies(variables) -> list[np.ndarray]:
    """The values of variables as arrays of their own: JAX reuses a variable's memory in the next step."""
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


class Checkpoint(keras.callbacks.Callback):
    """Validate, remember the epoch to keep, stop early and write a state to continue from after every epoch.

    The state is one file, replaced in one step: the variables of model (random states, too) and optimiser, the best
    weights so far and the history. A killed run loses the epoch it was in or, where epochs are short, ``SAVE_SECONDS``.
    """

    def __init__(self, config: RunConfig, data: Data, path: Path, progress: bool, on_epoch):
        super().__init__()
        self.config, self.path, self.on_epoch = config, path, on_epoch
        train, val = data.rows["train"], data.rows.get("val", np.zeros(0, int))
        if not len(val) and config.keep != "last":
            raise ValueError(f"{config.name} has no validation clips to choose an epoch by: set keep to \"last\".")
        self.batches = Batches(data.logmel[train], data.labels[train], config.batch_size, config.seed, config.mixup)
        self.x_val, self.y_val = data.logmel[val], data.labels[val]
        self.bar = tqdm(total=config.epochs, desc=config.name, unit="epoch", disable=not progress, file=sys.stdout)
        self.rows, self.seconds, self.saved, self.best_weights = [], 0.0, 0.0, None
        self.devices = [machine.processor() if device() == "cpu" else device()]  # and those it was begun on
        self.best = {"epoch": 0, "val_accuracy": -1.0, "val_loss": np.inf}

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.start_epoch(epoch)
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        raw = copies(self.model.weights)
        self.model.optimizer.finalize_variable_values(self.model.trainable_variables)  # their average, with ``ema``
        self.model.set_weights(copies(self.model.weights))  # on JAX the model must not share the optimiser's memory
        row = dict.fromkeys(runs.HISTORY_COLUMNS, np.nan) | logs | {"epoch": epoch + 1, "learning_rate": rate}
        if len(self.x_val):
            predicted = probabilities(self.model, self.x_val)
            row |= {"val_loss": cross_entropy(predicted, self.y_val),
                    "val_accuracy": (predicted.argmax(axis=1) == self.y_val).mean()}
        if not np.isfinite([row["loss"], row["val_loss"] if len(self.x_val) else 0]).all():
            raise FloatingPointError(f"The loss of {self.config.name} is not finite in epoch {epoch + 1}; "
                                     "lower the learning rate.")
        self.rows.append({key: round(float(value), 6) for key, value in row.items()} | {"epoch": epoch + 1})
        self.consider(epoch + 1, row["val_accuracy"], row["val_loss"], self.config.keep == "last")
        self.model.set_weights(raw)
        if epoch + 1 - self.best["epoch"] >= self.config.patience:
            self.model.stop_training = True
        self.seconds += time.perf_counter() - self.began
        last = self.model.stop_training or epoch + 1 == self.config.epochs
        if last or self.seconds - self.saved >= SAVE_SECONDS:
            self.save()
            self.saved = self.seconds
        self.bar.set_postfix(val=f"{row['val_accuracy']:.3f}", best=f"{self.best['val_accuracy']:.3f}")
        self.bar.update()
        if self.on_epoch:
            self.on_epoch(self.rows[-1])

    def consider(self, epoch: int, accuracy: float, loss: float, last: bool) -> None:
        """Keep the weights of this epoch if they are the best so far or, with ``last``, in any case."""
        if last or (accuracy, -loss) > (self.best["val_accuracy"], -self.best["val_loss"]):
            self.best = {"epoch": epoch, "val_accuracy": accuracy, "val_loss": loss}
            self.best_weights = copies(self.model.weights)

    def variables(self) -> list:
        """All that a continued run needs restored, in a fixed order."""
        return [*self.model.variables, *self.model.optimizer.variables]

    def save(self) -> None:
        """Write the state."""
        arrays = {f"variable{i}": value for i, value in enumerate(copies(self.variables()))}
        arrays |= {f"best{i}": value for i, value in enumerate(self.best_weights)}
        note = {"hash": self.config.hash, "rows": self.rows, "best": self.best, "seconds": self.seconds,
                "devices": self.devices, "stopped": bool(self.model.stop_training)}
        with atomic_write(self.path) as temporary, open(temporary, "wb") as file:
            np.savez(file, note=np.array(json.dumps(note)), **arrays)

    def restore(self) -> None:
        """Go back to the last written state, if there is one of this configuration."""
        if not self.path.exists():
            return
        try:
            with np.load(self.path) as stored:
                arrays = dict(stored)
            note = json.loads(str(arrays["note"]))
            if note["hash"] != self.config.hash:
                return
            shapes = {f"variable{i}": variable.shape for i, variable in enumerate(self.variables())}
            shapes |= {f"best{i}": weight.shape for i, weight in enumerate(self.model.weights)} | {"note": ()}
            if shapes != {name: value.shape for name, value in arrays.items()}:
                raise ValueError("it is of another network")
        except Exception as error:  # whatever is wrong with the file, training afresh is right
            print(f"The saved state {self.path} can't be read ({error}); starting this run afresh.")
            return
        self.rows, self.best, self.seconds = note["rows"], note["best"], note["seconds"]
        self.devices = list(dict.fromkeys([*note.get("devices", []), *self.devices]))
        for i, variable in enumerate(self.variables()):
            variable.assign(arrays[f"variable{i}"])
        self.best_weights = [arrays[f"best{i}"] for i in range(len(self.model.weights))]
        self.model.stop_training = note["stopped"]
        self.bar.update(len(self.rows))


def precision() -> str:
    """``mixed_bfloat16`` where bfloat16 is fast (a GPU, or a processor with instructions for it), else ``float32``."""
    return machine.precision() if device() == "cpu" else "mixed_bfloat16"


def device() -> str:
    """``cpu`` or the kind of accelerator that Keras computes on."""
    kinds = {name.split(":")[0] for name in keras.distribution.list_devices()}
    return min(kinds - {"cpu"}, default="cpu")


def compiled(config: RunConfig, data: Data, root: Path = RUNS) -> keras.Model:
    """The model of a run and its AdamW: warm-up, cosine decay to zero, global norm clipped. Raises as `distil.load`."""
    keras.config.set_dtype_policy(precision())
    keras.utils.set_random_seed(1000 * config.seed + config.fold)
    mean, deviation = statistics(data.logmel[data.rows["train"]])
    model, loss = frontend.assemble(config, mean, deviation), None  # a lesson adds its own
    if config.learns == "distilled":
        lesson = distil.Lesson(distil.load(config, root, mean, deviation))
        model = keras.Model(model.inputs, lesson([model.layers[-2].output, model.outputs[0]]), name=model.name)
    else:
        loss = keras.losses.CategoricalCrossentropy(label_smoothing=config.label_smoothing)
    steps = len(data.rows["train"]) // min(config.batch_size, len(data.rows["train"]))
    warmup = min(config.warmup_epochs, config.epochs - 1) * steps
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, config.epochs * steps - warmup, warmup_target=config.learning_rate, warmup_steps=warmup)
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=config.weight_decay, global_clipnorm=config.clip_norm,
                                       use_ema=bool(config.ema), ema_momentum=config.ema or 0.99)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    slow = device() == "cpu" and keras.backend.backend() == "tensorflow"  # there XLA takes longer than oneDNN's kernels
    model.compile(optimizer, loss, metrics=["accuracy"], steps_per_execution=steps_per_execution(steps),
                  jit_compile=False if slow else "auto")
    optimizer.build(model.trainable_variables)
    return model


def steps_per_execution(steps: int) -> int:
    """The largest divisor of the steps of an epoch up to 10: fewer returns to Python, every step counted."""
    return max(n for n in range(1, 11) if steps % n == 0)


def run(config: RunConfig, store: FeatureStore, root: Path = RUNS, progress: bool = True, on_epoch=None) -> runs.Run:
    """Train one run, or return it if it is finished; continue it where it was killed.

    The epoch kept is the last one or, as ``keep`` says, the one with the best validation accuracy (ties: the lower
    validation loss); clips are judged with its weights. A finished run of another configuration is moved aside.
    ``on_epoch`` is called after every epoch with its row of the history. Raises as :func:`prepare`, :func:`compiled`
    and :func:`locked`; OSError where the disk is full, the state kept.
    """
    with locked(config, root) as directory:
        if directory is None:
            return runs.Run(config.run_directory(root))
        data = prepare(config, store)
        model, checkpoint = fit(config, data, directory, progress, on_epoch, root=root)
        return finish(config, data, model, checkpoint, directory)


@contextlib.contextmanager
def locked(config: RunConfig, root: Path) -> Iterator[Path | None]:
    """The folder of a run to train, locked, or None if it is finished; RunBusy where another process trains it."""
    directory = config.run_directory(root)
    if runs.is_finished(config, root):
        yield None
        return
    directory.mkdir(parents=True, exist_ok=True)
    try:
        lock = filelock.FileLock(directory / ".lock").acquire(timeout=0)
    except filelock.Timeout as error:
        raise runs.RunBusy(f"Another process is training {config.name} in {directory}.") from error
    with lock:
        for path in directory.glob(".*-" + 8 * "[0-9a-f]" + ".*"):  # of a killed atomic_write
            path.unlink(missing_ok=True)
        finished = runs.is_finished(config, root)
        if not finished and (directory / "run.json").exists():
            runs.move_aside(directory)
        yield None if finished else directory


def fit(config: RunConfig, data: Data, directory: Path, progress: bool = False, on_epoch=None, kind=Checkpoint,
        root: Path = RUNS) -> tuple[keras.Model, Checkpoint]:
    """Train on a run's training clips, judge by its validation clips, never by test clips; go on from a kept state.

    Returns the model with the weights of the epoch kept, and the checkpoint, of a given ``kind``, with the history.
    """
    keras.backend.clear_session()
    model, checkpoint = compiled(config, data, root), kind(config, data, directory / runs.STATE, progress, on_epoch)
    checkpoint.set_model(model)
    model.stop_training = False
    checkpoint.restore()
    done = len(checkpoint.rows)
    if done < config.epochs and not model.stop_training:
        model.fit(checkpoint.batches, epochs=config.epochs, initial_epoch=done, callbacks=[checkpoint], shuffle=False,
                  verbose=0)
    checkpoint.bar.close()
    model.set_weights(checkpoint.best_weights)
    return model, checkpoint


def finish(config: RunConfig, data: Data, model: keras.Model, checkpoint: Checkpoint, directory: Path) -> runs.Run:
    """Predict validation and test clips with the weights kept and write the run."""
    tables = {part: runs.prediction_table(data.clips[rows], data.labels[rows],
                                          predict(model, data.logmel[rows], config.versions), part)
              for part, rows in data.rows.items() if part != "train"}
    judged = pd.concat(tables.values()) if tables else runs.prediction_table([], [], np.zeros((0, len(EMOTIONS))), "")
    with atomic_write(directory / runs.WEIGHTS) as temporary:
        distil.without_lesson(model).save(temporary)
    seen = len(checkpoint.rows) * len(checkpoint.batches) * checkpoint.batches.batch_size
    info = runs.provenance(config) | {"parameters": model.get_layer(config.model).count_params(),
        "epochs": len(checkpoint.rows), "best_epoch": checkpoint.best["epoch"],
        "metrics": {part: metrics(table.label, table[PROBABILITIES]) for part, table in tables.items()},
        "wall_seconds": round(checkpoint.seconds, 2), "samples_per_second": round(seen / checkpoint.seconds, 2),
        "device": ", then ".join(checkpoint.devices), "backend": keras.backend.backend(), "precision": precision()}
    run = runs.write(directory, info, pd.DataFrame(checkpoint.rows), judged)
    (directory / runs.STATE).unlink(missing_ok=True)
    return run
