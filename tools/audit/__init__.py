"""Recomputes the rankings from the stored sales and compares them with what is served."""
