"""The embedded zoo: five compact scorers of unlike design, trained on human opinion scores, shipped with weights."""
