"""The private parts of Keras: nothing outside this package touches them."""
