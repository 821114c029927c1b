"""The two reference tables, live: `python -m experiments.check_grad`.

TensorFlow's GradientTape and torch.optim.SGD compute them; HalfL2 computes them again from the
matching lambda; and the update W <- (1 - eta*lam)*W - eta*grad stands next to torch's step.
Exit status 1 on any difference.
"""

from l2keras_experiments.runtime import boundary
from l2keras_experiments.training.gradients import main

if __name__ == "__main__":
    boundary.run(main)
