"""Training: synthetic cases, simulated prompts, and the trainer of `nano`. Never imported by the inference path."""
