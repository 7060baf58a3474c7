"""Images: decoding, degrading, arrays and tensors, what an eye notices; the image sets."""
