"""The typed configuration: its keys, its composition by Hydra, and what is typed."""
