"""What WeightDecay does: rules, forms and the update, in a model's train step."""
