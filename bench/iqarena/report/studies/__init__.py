"""Studies: tables that compare attacks under one question."""
