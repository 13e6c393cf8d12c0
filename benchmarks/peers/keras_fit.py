"""Keras 3 ``fit`` as the report ran it; the backend is KERAS_BACKEND (tensorflow or jax).

STEPS_PER_EXECUTION is Keras's own option of that name, 1 as by default if it is not set. With
``--reshuffled 1`` only the initial weights are seeded: on TensorFlow, ``set_random_seed`` makes
``fit`` repeat one order of the training images in every epoch (docs/keras.md).
"""

import itertools
import os
import sys
import time

if os.environ["KERAS_BACKEND"] != "tensorflow":
    # As where TensorFlow is not installed: set_random_seed would import it, in seconds and MB.
    sys.modules["tensorflow"] = None

import keras
from keras import initializers, layers, regularizers
from peer import arguments, arrays, report

options = arguments(reshuffled=0)
train, labels, test, test_labels = arrays(options.dataset, options.root)
train = train.transpose(0, 2, 3, 1).astype("float32") / 255
test = test.transpose(0, 2, 3, 1).astype("float32") / 255
if not options.reshuffled:
    keras.utils.set_random_seed(options.seed)
layer = itertools.count(1000 * options.seed)


def shared() -> dict:
    """Arguments of every layer: he_normal and L2."""
    return {
        "kernel_initializer": initializers.HeNormal(next(layer) if options.reshuffled else None),
        "kernel_regularizer": regularizers.L2(options.l2) if options.l2 else None,
    }


model = keras.Sequential([
    layers.Input(train.shape[1:]),
    layers.Conv2D(6, 5, activation="relu", **shared()), layers.MaxPooling2D(),
    layers.Conv2D(16, 5, activation="relu", **shared()), layers.MaxPooling2D(), layers.Flatten(),
    layers.Dense(120, activation="relu", **shared()),
    layers.Dense(84, activation="relu", **shared()),
    layers.Dense(10, activation="softmax", **shared()),
])  # fmt: skip
optimizer = keras.optimizers.Adam(options.lr)
model.compile(
    optimizer,
    "sparse_categorical_crossentropy",
    metrics=["accuracy"],
    steps_per_execution=int(os.environ.get("STEPS_PER_EXECUTION", "1")),
)


class Clock(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None) -> None:
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None) -> None:
        report(
            time.perf_counter() - self.start,
            logs["val_accuracy"],
            train_accuracy=logs["accuracy"],
        )


model.fit(
    train,
    labels,
    options.batch,
    options.epochs,
    verbose=2,
    callbacks=[Clock()],
    validation_data=(test, test_labels),
    validation_batch_size=1000,
)
