"""What words mean wherever people read them. No torch here: the report reads this, too."""

CONFIDENT = 0.9  # a probability of at least this; thresholds that methods learn by are settings of theirs
