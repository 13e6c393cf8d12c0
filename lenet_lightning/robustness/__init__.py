"""Where trained networks break: accuracy on altered test images, and what the first layer sees."""
