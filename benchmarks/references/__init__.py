"""What learns from some true labels: no method of `fit`, and what SPICE is compared with in its table V.

Labels come in as an argument, -1 where none is shown: `learn` never sees another one.
"""
