"""From files to batches. Knows tensors, no models."""
