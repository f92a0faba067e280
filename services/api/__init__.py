"""Serves the rankings over REST, and a page that shows them."""
