"""A run as a whole: planned, driven, written down, grown, merged, exported."""
