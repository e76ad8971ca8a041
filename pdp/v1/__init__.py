"""Generated from proto/pdp/v1 by `make proto`; not edited by hand."""
