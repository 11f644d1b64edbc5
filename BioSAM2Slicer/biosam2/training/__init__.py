"""Training: recipes, the one trainer, and what it learns from. Never imported by inference.

`finetune` and `nano` are what is called: each is a task for `trainer`, which takes a network through the stages of a
recipe (`recipes`, `schedule`). A batch is made of `clips`, which `cuts` and `real` take from labelled cases and
`synthetic.views` generates; `objective` puts prompts in front of the network (`rounds`, `simulation`) and `losses`
judge its answers. `reporting` tells how it goes, `files` and `result` write what is left.
"""
