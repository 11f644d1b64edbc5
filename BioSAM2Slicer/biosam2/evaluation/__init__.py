"""Measuring: a simulated user, the engine and classical tools on labelled volumes. Never imported by inference.

`cases` says on what, `user` what is prompted, `runs` what the engine makes of it, `classical` what others do,
`ceiling` what resolution allows, `metrics` how good it is. Two things are made of these:

- `campaign` measures models on a dataset, for `biosam2 evaluate`: `tasks` is one case and one model in whatever
  process, `store` what is known already, `summary` means and intervals, `report` the page to read.
- `card` measures one model beside the classical tools (`measure`), and writes the model card's `tables`.
"""
