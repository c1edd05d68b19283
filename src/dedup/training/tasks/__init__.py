"""What an encoder is trained to do: each module offers one LightningModule."""
