"""Shows one sale at every step, from its raw records to its rank."""
