"""Running a plan: cells, measurements, workers."""
