"""sweep: many lambdas trained at once, by stacking the weights."""
