"""Keras 3 ``fit`` as the report ran it; the backend is KERAS_BACKEND (tensorflow or jax)."""

import time

import keras
from common import arguments, arrays, report
from keras import layers, regularizers

options = arguments()
train, labels, test, test_labels = arrays(options.dataset, options.root)
train = train.transpose(0, 2, 3, 1).astype("float32") / 255
test = test.transpose(0, 2, 3, 1).astype("float32") / 255
shared = {"kernel_initializer": "he_normal", "kernel_regularizer": regularizers.L2(0.001)}
model = keras.Sequential([
    layers.Input(train.shape[1:]),
    layers.Conv2D(6, 5, activation="relu", **shared), layers.MaxPooling2D(),
    layers.Conv2D(16, 5, activation="relu", **shared), layers.MaxPooling2D(), layers.Flatten(),
    layers.Dense(120, activation="relu", **shared), layers.Dense(84, activation="relu", **shared),
    layers.Dense(10, activation="softmax", **shared),
])  # fmt: skip
model.compile(
    keras.optimizers.Adam(0.0005), "sparse_categorical_crossentropy", metrics=["accuracy"]
)


class Clock(keras.callbacks.Callback):
    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, *_) -> None:
        self.start = time.perf_counter()

    def on_epoch_end(self, *_) -> None:
        self.seconds.append(time.perf_counter() - self.start)


clock = Clock()
history = model.fit(train, labels, options.batch, options.epochs, verbose=2, callbacks=[clock],
                    validation_data=(test, test_labels))  # fmt: skip
report(clock.seconds, history.history["val_accuracy"][-1])
