"""Defenses: one short file each. Purifications change the image; training defenses harden the weights."""
