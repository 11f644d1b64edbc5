"""Measuring: a simulated user, the engine and classical tools on labelled volumes. Never imported by inference.

`cases` says on what, `user` what is prompted, `runs` what the engine makes of it, `classical` what others do,
`ceiling` what resolution allows, `metrics` how good it is; `card` runs it all and writes the model card's tables.
"""
