"""Defenses: one short file each. Purifications change the picture; training defenses harden the weights."""
