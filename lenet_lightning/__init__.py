"""LeNet-5 trained with PyTorch Lightning on images and on their negatives."""

__version__ = "0.1.0"
