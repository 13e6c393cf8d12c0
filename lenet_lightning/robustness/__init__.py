"""Robustness of trained networks: accuracy on altered test images, and maps of the first layer."""
