"""A model of one's own. It knows nothing of l2keras: the experiments put lambda on it."""

import keras


def classifier(input_shape: tuple[int, ...], num_outputs: int, units: int = 32) -> keras.Model:
    """Two hidden layers; `input_shape` and `num_outputs` come from the data."""
    x = inputs = keras.Input(input_shape)
    for _ in range(2):
        x = keras.layers.Dense(units, "relu")(x)
    return keras.Model(inputs, keras.layers.Dense(num_outputs)(x))
