"""The LightningModule, and what it trains with: losses, metrics, optimizers, schedulers."""
