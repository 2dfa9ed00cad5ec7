"""The eager side: tensors that compute at once and remember how, and the walk back through that."""
