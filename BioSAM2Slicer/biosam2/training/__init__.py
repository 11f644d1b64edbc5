"""Training: labelled and generated clips, simulated prompts, recipes and the trainer. Never imported by inference."""
