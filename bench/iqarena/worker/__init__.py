"""What a worker does, wherever it runs: a batch of images through all sources and attacks, measured, as rows."""
