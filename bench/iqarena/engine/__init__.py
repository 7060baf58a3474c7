"""What evaluates models for attacks: scorers, sources, the score oracle, the sealed call."""
