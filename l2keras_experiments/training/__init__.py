"""One training run: model, optimizer, method, checkpoint. Knows neither Hydra nor MLflow."""
