"""What a suite file says, and what it resolves to; needs no torch."""
