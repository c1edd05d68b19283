"""Training with PyTorch Lightning: data, tasks, callbacks, checkpoints."""
