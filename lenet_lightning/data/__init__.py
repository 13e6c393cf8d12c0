"""Datasets: where they come from, how they are proven, and how they reach the network."""
