"""Forecast, speed, describe, doctor, docs."""
