"""How fast the engine is beside `sam2`'s own SAM2VideoPredictor. See README.md in this folder."""
