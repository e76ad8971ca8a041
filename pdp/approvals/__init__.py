"""Approvals: who may say yes, and what becomes of a question."""
