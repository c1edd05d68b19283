"""Training tasks: each module offers one LightningModule."""
