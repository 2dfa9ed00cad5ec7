"""Sparse Jacobians and Hessians: pattern, colouring, compressed evaluation."""

from tracegrad.sparsity.derivatives import sparse_hessian, sparse_jacobian

__all__ = ["sparse_hessian", "sparse_jacobian"]
