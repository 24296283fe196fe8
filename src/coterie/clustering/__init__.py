"""Groups among features, pure functions on matrices: k-means, merging, power iteration, neighbours."""
