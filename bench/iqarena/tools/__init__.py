"""What is done beside runs: forecast, speed, describe, doctor, check, new, diff, docs, embed, train, sweep, verify."""
