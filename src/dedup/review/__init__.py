"""People's decisions on pairs: the ledger that keeps them, and the app that asks for them."""
