"""A traced function called on tensors: one node of the eager graph, run compiled."""
