"""The commands of `pdp`, one module for each group; `pdp.cli` puts them together.

What a group prints is made by pure modules beside it (`approval_view`, `replay`, `chain`); everything foreign in it
goes through `pdp.shown`.
"""
