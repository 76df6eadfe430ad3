"""Train LoRAs that glitch, look at their losses and compare what they do to pictures."""
