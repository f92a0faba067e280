"""traffic: sells through all three sources, once (seed) or at a chosen rate until stopped."""
