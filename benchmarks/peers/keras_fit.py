"""Keras 3 ``fit`` as the report ran it; the backend is KERAS_BACKEND (tensorflow or jax).

STEPS_PER_EXECUTION is Keras's own option of that name, 1 as by default if it is not set.
"""

import os
import sys
import time

if os.environ["KERAS_BACKEND"] != "tensorflow":
    # As where TensorFlow is not installed: set_random_seed would import it, in seconds and MB.
    sys.modules["tensorflow"] = None

import keras
from keras import layers, regularizers
from peer import arguments, arrays, report

options = arguments()
train, labels, test, test_labels = arrays(options.dataset, options.root)
train = train.transpose(0, 2, 3, 1).astype("float32") / 255
test = test.transpose(0, 2, 3, 1).astype("float32") / 255
keras.utils.set_random_seed(options.seed)
shared = {
    "kernel_initializer": "he_normal",
    "kernel_regularizer": regularizers.L2(options.l2) if options.l2 else None,
}
model = keras.Sequential([
    layers.Input(train.shape[1:]),
    layers.Conv2D(6, 5, activation="relu", **shared), layers.MaxPooling2D(),
    layers.Conv2D(16, 5, activation="relu", **shared), layers.MaxPooling2D(), layers.Flatten(),
    layers.Dense(120, activation="relu", **shared), layers.Dense(84, activation="relu", **shared),
    layers.Dense(10, activation="softmax", **shared),
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
        report(time.perf_counter() - self.start, logs["val_accuracy"])


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
