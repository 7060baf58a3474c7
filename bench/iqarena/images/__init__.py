"""Images: decoding, degrading, what an eye notices; the image sets."""
