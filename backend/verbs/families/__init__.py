"""Model families: what a kind of checkpoint is, and the graph that samples from it. Pure."""
