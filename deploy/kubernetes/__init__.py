"""Kubernetes: the manifests, and what of them is made from files that exist already."""
