"""Generated images with known targets: for training, for measuring, and to try things out on.

`anatomy` draws shapes by formulas, `images` turns label maps into scans, `views` cuts frames with targets out of them;
`phantom` is one fixed CT of an upper abdomen, which needs NumPy only.
"""
