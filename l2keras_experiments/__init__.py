"""What the commands of `experiments` are made of; each package imports only those below it."""
