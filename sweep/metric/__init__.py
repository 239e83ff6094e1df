"""What compression did: one file per metric, and the passes over text that metrics share."""
