"""What happens around training: the record of a run, what it shows, what it predicts."""
