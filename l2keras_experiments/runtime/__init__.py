"""The process of a run: backend and device, signals, progress, files, exit status."""
