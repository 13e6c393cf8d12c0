"""Choice of settings by Optuna: trials on validation images, and the study that judges the best."""
